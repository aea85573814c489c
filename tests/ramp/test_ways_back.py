"""Rollbacks where something they would like to have is missing: the router, the journal, a plan that can be read.

No Envoy runs here: the route folder is what counts, and what Envoy reads when it comes back."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, PLAN, ROUTE, TS0, Given, HandClock, Post, Source, free_port

from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import NotWrittenDown, Unreachable, UserError
from crossfade.home import Home
from crossfade.plan.load import parse_plan
from crossfade.ports import Entry
from crossfade.ramp import orders
from crossfade.ramp.logbook import Desk
from crossfade.ramp.reconcile import reconcile
from crossfade.ramp.rollback import roll_back
from crossfade.ramp.tick import tick
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.way_back import bring_back

WHO = {"by": "ada", "why": "because"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Half of the users are on the target, and the journal knows it."""
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSFADE_JOURNAL", raising=False)
    home = Home(tmp_path)
    begin(home, Phase.RAMPING, 5000)
    in_folder(home, 5000)
    return home


def begin(home: Home, phase: Phase, share_bp: int, plan: str = PLAN) -> None:
    journal = SqlJournal(home.journal)
    first = MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=TS0, share_since_s=TS0)
    state = journal.begin(first, plan)
    placed = state.model_copy(update={"phase": phase, "step": 1, "share_bp": share_bp})
    journal.move(placed, Entry(MIGRATION, 1, TS0, "note", "placed by a test", '{"why": "test"}'))


def in_folder(home: Home, share_bp: int) -> None:
    folder = RouteFolder(home.router)
    folder.prepare()
    folder.store(RouteTable().with_route(ModelRoute(name=ROUTE, models=("lab:latest",), share_bp=share_bp)))


def desk(home: Home, router: Path | None = None, wait_s: float = 0.2) -> Desk:
    return Desk(
        plan=parse_plan(PLAN, origin="test", folder=Path("/")).plan,
        journal=SqlJournal(home.journal, wait_s=wait_s),
        router=EnvoyRouter(router or home.router),
        metrics=Given(),
        watchman=Post(),
        standby=Source(),
        clock=HandClock(),
    )


def share(home: Home) -> int:
    return EnvoyRouter(home.router).table().route(ROUTE).share_bp


@pytest.mark.parametrize(
    ("phase", "share_bp"),
    [(Phase.REHEARSED, 0), (Phase.RAMPING, 5000), (Phase.CUT_OVER, 10_000), (Phase.SOAKING, 10_000), (Phase.ROLLING_BACK, 5000)],
)
@pytest.mark.parametrize("deed", ["roll_back", "tick", "reconcile", "abort"])
def test_on_a_machine_that_is_not_the_routers_nothing_is_believed_to_be_rolled_back(
    tmp_path: Path, deed: str, phase: Phase, share_bp: int
) -> None:
    begin(Home(tmp_path), phase, share_bp)
    here = desk(Home(tmp_path), router=tmp_path / "of another home" / "router")
    before = here.journal.state(MIGRATION)
    deeds: dict[str, Callable[[], object]] = {
        "roll_back": lambda: roll_back(here, MIGRATION, **WHO),
        "tick": lambda: tick(here, MIGRATION),
        "reconcile": lambda: reconcile(here, MIGRATION),
        "abort": lambda: orders.abort(here, MIGRATION, **WHO),
    }
    with pytest.raises(UserError, match=r"of another home/router: this is not the router's host.*set CROSSFADE_HOME"):
        deeds[deed]()
    assert here.journal.state(MIGRATION) == before


def test_a_router_that_only_serves_other_migrations_is_not_believed_either(home: Home, tmp_path: Path) -> None:
    other = RouteFolder(tmp_path / "other" / "router")
    other.prepare()
    other.store(RouteTable().with_route(ModelRoute(name="other", models=("other",), share_bp=100)))
    here = desk(home, router=other.path)
    before = here.journal.state(MIGRATION)
    for deed in (lambda: roll_back(here, MIGRATION, **WHO), lambda: reconcile(here, MIGRATION)):
        with pytest.raises(UserError, match=f"no router ever had a route {ROUTE} in "):
            deed()
    assert here.journal.state(MIGRATION) == before


@pytest.mark.parametrize("moves_since", [0, 60])
def test_a_route_that_a_person_took_away_is_believed_however_long_ago(home: Home, moves_since: int) -> None:
    folder = RouteFolder(home.router)
    table = folder.table().without_route(ROUTE)
    for generation in range(table.generation, table.generation + moves_since + 1):
        folder.store(table.model_copy(update={"generation": generation}))
    assert reconcile(desk(home), MIGRATION).phase is Phase.ROLLED_BACK


def test_a_migration_without_users_needs_no_router_to_be_given_up(tmp_path: Path) -> None:
    begin(Home(tmp_path), Phase.DOWNLOADED, 0)
    assert roll_back(desk(Home(tmp_path)), MIGRATION, **WHO).state.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.FAILED])
def test_reconcile_leaves_no_user_on_the_target_of_a_migration_that_ended_at_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    from tasks.reconcile import list_under_way

    home = Home(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path))
    begin(home, phase, 0)
    in_folder(home, 5000)
    assert list_under_way.fn() == [MIGRATION]
    settled = reconcile(desk(home), MIGRATION)
    assert (settled.phase, share(home)) == (phase, 0)
    assert f"it is {phase}, and the router had 50% on the target" in EnvoyRouter(home.router).latches()[ROUTE].why
    assert [entry.kind for entry in SqlJournal(home.journal).entries(MIGRATION, subject="reconcile")] == ["intent", "outcome"]
    assert list_under_way.fn() == []
    assert reconcile(desk(home), MIGRATION) == settled


def test_a_finished_migration_keeps_its_users(tmp_path: Path) -> None:
    begin(Home(tmp_path), Phase.FINISHED, 10_000)
    in_folder(Home(tmp_path), 10_000)
    assert reconcile(desk(Home(tmp_path)), MIGRATION).phase is Phase.FINISHED
    assert share(Home(tmp_path)) == 10_000


def test_an_abort_that_the_journal_could_not_be_told_says_that_the_users_are_back(home: Home) -> None:
    here = desk(home)
    locked = sqlite3.connect(home.journal, isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotWrittenDown, match=r"the source has everything, and the route is latched\. The journal was not told: .*locked"):
        orders.abort(here, MIGRATION, **WHO)
    assert share(home) == 0
    locked.execute("ROLLBACK")
    assert tick(here, MIGRATION).did == "rolled_back"
    assert here.journal.state(MIGRATION).share_bp == 0


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://crossfade@127.0.0.1:{server.getsockname()[1]}/journal"


def down() -> str:
    return f"postgresql://crossfade@127.0.0.1:{free_port()}/journal"


def test_a_journal_that_does_not_answer_is_waited_for_a_second_before_the_users_are_back(
    home: Home, black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSFADE_JOURNAL", black_hole)
    began_s = time.monotonic()
    with pytest.raises(NotWrittenDown, match="did not answer within 1 s"):
        bring_back(MIGRATION, **WHO)
    assert time.monotonic() - began_s < 2
    assert share(home) == 0


@pytest.mark.parametrize("command", ["rollback", "ramp abort"])
def test_both_commands_bring_the_users_back_with_the_journals_server_down(home: Home, command: str) -> None:
    done = crossfade(home, f"{command} {MIGRATION}", CROSSFADE_JOURNAL=down())
    assert (done.returncode, share(home)) == (0, 0), done.stderr
    assert "the source has everything, and the route is latched. The journal was not told: " in done.stdout
    assert "next tick or reconcile" in done.stdout


def test_the_order_in_the_ui_and_the_rollback_run_do_the_same(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.orders import _abort

    monkeypatch.setenv("CROSSFADE_JOURNAL", down())
    with pytest.raises(NotWrittenDown):  # of a class that has the task tried again, until the journal is told
        _abort(MIGRATION, **WHO)
    assert share(home) == 0


def test_with_the_journal_down_and_no_route_here_nothing_is_claimed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_JOURNAL", down())
    with pytest.raises(Unreachable, match="the journal does not answer"):
        bring_back("chat/another", **WHO)
    assert not EnvoyRouter(home.router).latches()


@pytest.mark.parametrize("command", ["rollback", "ramp abort"])
def test_a_plan_that_this_version_refuses_is_in_no_rollbacks_way(tmp_path: Path, command: str) -> None:
    home = Home(tmp_path)
    begin(home, Phase.RAMPING, 5000, plan=PLAN + "a_key_of_another_version: true\n")
    in_folder(home, 5000)
    done = crossfade(home, f"{command} {MIGRATION}")
    assert (done.returncode, share(home)) == (0, 0), done.stderr
    assert SqlJournal(home.journal).state(MIGRATION).phase is Phase.ROLLED_BACK


def crossfade(home: Home, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CROSSFADE_HOME": str(home.root), "COLUMNS": "100", **more}
    arguments = [sys.executable, "-m", "crossfade.cli", *command.split()]
    return subprocess.run(arguments, env=environment, cwd=home.root, capture_output=True, text=True, timeout=60, check=False)
