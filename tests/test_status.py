"""What `crossfade status` prints: also when something of it cannot be seen."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from crossfade.envoy.folder import RouteFolder
from crossfade.home import Home
from crossfade.ports import Entry
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import Latch, ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.status import show_status
from crossfade.store.journal import SqlJournal
from crossfade.sweep import sweep

PLAN = """
name: {name}
source: {{url: "http://127.0.0.1:1"}}
models: [{{ollama: "lab:latest", huggingface: a/b}}]
prometheus: {{url: "http://127.0.0.1:1", timeout: 1s}}
gates: {{error_rate: {{at_most: 1%}}}}
ramp: {{every: 20s, steps: [10%, 50%, 100%], approve_before: [50%]}}
"""

Said = Callable[[], str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path))
    return Home(tmp_path)


@pytest.fixture
def said(home: Home) -> Said:
    def show() -> str:
        printed = io.StringIO()
        show_status(Console(file=printed, width=140), "")
        return printed.getvalue()

    return show


def ramping(home: Home, name: str, *, plan: str = PLAN, **changed: object) -> RouteFolder:
    """A migration at a tenth, in journal and route folder; nothing runs."""
    journal, migration, now_s = SqlJournal(home.journal), f"{name}/lab-latest", time.time()
    begun = journal.begin(
        MigrationState(name=migration, plan_digest=name, phase_since_s=now_s, share_since_s=now_s), plan.format(name=name)
    )
    moved = begun.model_copy(update={"phase": Phase.RAMPING, "step": 0, "share_bp": 1000, "because": "first step", **changed})
    journal.move(moved, Entry(migration, 1, now_s, "note", "set by a test", '{"why": "test"}'))
    folder = RouteFolder(home.router)
    folder.prepare()
    folder.store(folder.table().with_route(ModelRoute(name=route_name(migration), models=(name,), share_bp=1000)))
    return folder


def test_a_ramp_shows_shares_gates_decisions_what_it_waits_for_and_its_next_tick(home: Home, said: Said) -> None:
    ramping(home, "chat")
    sweep(home, within_s=30)
    text = said()
    for part in (
        "chat/lab-latest, attempt 1",
        "ramping: first step",
        "asked 10%, in the route file 10%",
        "HOLDS",
        "hold before step",
        "no guard ever ran",
        "waits for",
    ):
        assert part in text, text
    assert any(f"in {seconds}s" in text for seconds in range(1, 21)), text


@pytest.mark.parametrize(
    ("changed", "waits"),
    [
        ({"asked_bp": 5000}, "a person's word on 50%: crossfade ramp approve|reject chat/lab-latest"),
        ({"paused_by": "ada"}, "a person: paused by ada. crossfade ramp resume chat/lab-latest"),
    ],
)
def test_a_ramp_that_waits_for_a_person_says_what_to_type(home: Home, said: Said, changed: dict[str, object], waits: str) -> None:
    ramping(home, "chat", **changed)
    assert waits in said()


def test_a_plan_that_cannot_be_read_hides_neither_its_router_nor_the_others(home: Home, said: Said) -> None:
    ramping(home, "good")
    ramping(home, "odd", plan="name: [{name}")
    text = said()
    assert "this is not YAML" in text
    assert text.count("in the route file 10%") == 2


def test_a_latch_and_a_broken_route_file_are_said(home: Home, said: Said) -> None:
    folder = ramping(home, "chat")
    folder.latch("chat.lab-latest", Latch(why="p99 is 9 s", at_s=1.0, by="guard"))
    folder.route_file.write_text("{")
    text = said()
    assert "p99 is 9 s (by guard)" in text
    assert "in the route file unknown: " in text


def test_the_table_alone_is_enough_to_see_a_route_that_was_taken_away(home: Home, said: Said) -> None:
    folder = ramping(home, "chat")
    folder.store(RouteTable(generation=folder.table().generation + 1))
    assert "asked 10%, in the route file no route" in said()
