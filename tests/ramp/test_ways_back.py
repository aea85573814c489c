"""Rollbacks where something they would like to have is missing: the router, the journal, a plan that can be read.

No Envoy runs here: the route folder is what counts, and what Envoy reads when it comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, PLAN, ROUTE, TS0, Given, HandClock, Post, Source

from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import UserError
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

WHO = {"by": "ada", "why": "because"}


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
