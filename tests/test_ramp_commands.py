"""Orders that make no sense, as a person types them: exit code 2, one message that says what is so instead, nothing moved."""

import os
import subprocess
import sys

import pytest

from crossfade.home import Home
from crossfade.ports import Entry
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

PLAN = """name: {name}
source: {{url: "http://127.0.0.1:1"}}
models: [{{ollama: "lab:latest", huggingface: a/b}}]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Migrations that run, that are paused, and that have ended."""
    home = Home(tmp_path_factory.mktemp("orders"))
    journal = SqlJournal(home.journal)
    for name, changed in {
        "runs": {"phase": Phase.RAMPING, "share_bp": 500, "step": 1},
        "paused": {"phase": Phase.RAMPING, "share_bp": 500, "step": 1, "paused_by": "ada"},
        "done": {"phase": Phase.FINISHED, "share_bp": 10_000, "because": "soaked"},
        "back": {"phase": Phase.ROLLED_BACK, "because": "a breach"},
    }.items():
        first = MigrationState(name=f"{name}/lab-latest", plan_digest=name, phase_since_s=1, share_since_s=1)
        begun = journal.begin(first, PLAN.format(name=name))
        journal.move(begun.model_copy(update=changed), Entry(begun.name, 1, 1, "note", "test", '{"why": "test"}'))
    return home


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ramp resume runs/lab-latest", "is not paused: it is ramping at 5%"),
        ("ramp pause paused/lab-latest", "is paused already, by ada"),
        ("ramp abort done/lab-latest", "is finished already (soaked); there is nothing to abort"),
        ("ramp abort back/lab-latest", "is rolled_back already (a breach)"),
        ("ramp resume back/lab-latest", "only a new attempt begins again"),
        ("ramp approve runs/lab-latest", "asks for no approval now"),
        ("ramp hold runs/lab-latest --for soon", "--for soon"),
        ("ramp abort nobody/knows", "no migration is called 'nobody/knows'. Known: back/lab-latest"),
        ("rollback nobody/knows", "no migration is called 'nobody/knows'"),
        ("status nobody/knows", "no migration is called 'nobody/knows'"),
    ],
)
def test_an_order_that_makes_no_sense_ends_with_2_and_moves_nothing(home: Home, command: str, said: str) -> None:
    journal = SqlJournal(home.journal)
    before = journal.states()
    environment = {**os.environ, "CROSSFADE_HOME": str(home.root), "COLUMNS": "200"}
    words = [sys.executable, "-m", "crossfade.cli", *command.split()]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert (done.stderr.count("\n"), "Traceback" in done.stderr) == (1, False)
    assert journal.states() == before
    assert [
        entry.kind for name in ("runs", "paused", "done", "back") for entry in journal.entries(f"{name}/lab-latest", kind="order")
    ] == []
