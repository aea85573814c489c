"""Orders that make no sense, given on the real command line: one clear sentence, exit code 2, and nothing in the journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossfade.plan.load import parse_plan
from crossfade.ports import Entry
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

PLAN = """name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: MODEL, huggingface: a/b}]
parity: {skip: "the test of a command line"}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A journal with a migration in each of three phases; there is no router, for none of this needs one."""
    journal = SqlJournal(tmp_path / "journal.sqlite")
    for phase in (Phase.RAMPING, Phase.FINISHED, Phase.ROLLED_BACK):
        model = phase.replace("_", "-")
        text = PLAN.replace("MODEL", model)
        digest = parse_plan(text, origin="test", folder=Path("/")).digest
        state = journal.begin(MigrationState(name=f"chat/{model}", plan_digest=digest, phase_since_s=1.0, share_since_s=1.0), text)
        placed = state.model_copy(update={"phase": phase, "because": "the test says so"})
        journal.move(placed, Entry(state.name, 1, 1.0, "note", "placed by a test", '{"why": "test"}'))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ramp abort chat/finished", "chat/finished is finished already"),
        ("ramp abort chat/rolled-back", "nothing to abort"),
        ("ramp resume chat/ramping", "chat/ramping is not paused"),
        ("ramp resume chat/rolled-back", "crossfade migrate PLAN"),
        ("ramp pause chat/finished", "nothing to pause"),
        ("ramp back chat/ramping", "crossfade ramp abort chat/ramping"),
        ("ramp approve chat/ramping", "asks for no approval"),
        ("ramp hold chat/ramping --for soon", "--for soon"),
        ("ramp abort chat/nobody", "no migration is called 'chat/nobody'"),
        ("rollback chat/nobody", "no migration is called 'chat/nobody'"),
        ("rollback nobody", "no migration is called 'nobody'"),
        ("rollback chat/finished", "has finished: its source is no longer kept warm"),
        ("tick chat/nobody", "no migration is called 'chat/nobody'"),
    ],
)
def test_an_order_that_cannot_be_meant_is_the_users_mistake(home: Path, command: str, said: str) -> None:
    journal = SqlJournal(home / "journal.sqlite")
    before = [(state, len(journal.entries(state.name))) for state in journal.states()]
    environment = {**os.environ, "CROSSFADE_HOME": str(home), "COLUMNS": "100"}
    arguments = [sys.executable, "-m", "crossfade.cli", *command.split()]
    done = subprocess.run(arguments, env=environment, cwd=home, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert [(state, len(journal.entries(state.name))) for state in journal.states()] == before


def test_a_tick_of_a_migration_that_has_ended_says_so_and_is_no_failure(home: Path) -> None:
    environment = {**os.environ, "CROSSFADE_HOME": str(home)}
    arguments = [sys.executable, "-m", "crossfade.cli", "tick", "chat/finished"]
    done = subprocess.run(arguments, env=environment, cwd=home, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "has nothing to tick" in done.stdout) == (0, True), done.stdout + done.stderr
