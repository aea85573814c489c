"""Routes no user is on, while other migrations move the same table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, ROUTE, Overtaken, rehearsed, start_envoy

from crossfade import processes
from crossfade.errors import StaleWriter, Unreachable
from crossfade.home import Home
from crossfade.ramp.logbook import Desk
from crossfade.ramp.moves import put_unused, take_unused
from crossfade.ramp.rehearsal import rehearse
from crossfade.rollout.names import rehearsal_route_name
from crossfade.rollout.routes import ModelRoute, Upstream


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    home, envoy = start_envoy(tmp_path)
    try:
        yield rehearsed(home)[0]
    finally:
        processes.stop(envoy, deadline_s=5)


def test_a_rehearsal_goes_on_when_another_migration_moves_the_table_first(desk: Desk, tmp_path: Path) -> None:
    hidden, router = rehearsal_route_name(MIGRATION), Overtaken(Home(tmp_path).router, times=4)

    def send(model: str) -> str:
        if desk.router.table().route(hidden).upstream is Upstream.REHEARSAL_BREACH:
            desk.router.trip(hidden, why="errors", by="guard", at_s=desk.clock.now_s())
            raise Unreachable(f"{model} is answered by nobody")
        return "10"

    shown = rehearse(dataclasses.replace(desk, router=router), desk.journal.state(MIGRATION), send)
    assert (shown.answered_by_target, shown.latch_by) == (3, "guard")
    assert {route.name for route in desk.router.observed().routes} == {ROUTE, "other"}


def test_who_is_overtaken_each_time_says_so_in_the_end(desk: Desk, tmp_path: Path) -> None:
    route = ModelRoute(name="mine", models=("mine",))
    with pytest.raises(StaleWriter):
        put_unused(Overtaken(Home(tmp_path).router, times=5), route)
    put_unused(Overtaken(Home(tmp_path).router, times=4), route)
    assert desk.router.observed().route("mine") == route
    take_unused(desk.router, "mine")
    take_unused(desk.router, "mine")
    assert all(known.name != "mine" for known in desk.router.observed().routes)
