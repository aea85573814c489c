"""SIGKILL of the tick that sees a restart of the target: the next tick takes users back to the first step all the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from history_desk import MIGRATION, ROUTE, Place, World, act, killed

from crossfade.ramp.rejudge import rejudge
from crossfade.rollout.phases import Phase

SEES, BEGINS, GOES = "after-move", "after-move:2", "after-intent"
"""The old process is judged, the new memory stands, users are about to move."""


@pytest.mark.parametrize("failpoint", ["before-decision", SEES, "in-move:2", BEGINS, GOES, "before-rename", "after-rename", "after-verify"])
def test_a_restart_is_not_forgotten_whenever_the_tick_that_saw_it_dies(tmp_path: Path, failpoint: str) -> None:
    place, world = Place(tmp_path), World(at_s=1000.0)
    place.begin(Phase.RAMPING, 1, 5000, world)
    world = dataclasses.replace(world, at_s=world.at_s + 20)
    assert act(place.desk(world), "tick") == "held"
    world = dataclasses.replace(world, at_s=world.at_s + 61, started_s=2000.0)
    assert killed(place, world, "tick", failpoint)
    world = dataclasses.replace(world, at_s=world.at_s + 61)
    act(place.desk(world), "tick")
    desk = place.desk(world)
    assert (desk.router.table().route(ROUTE).share_bp, desk.journal.state(MIGRATION).step) == (1000, 0)
    assert rejudge(desk.journal.entries(MIGRATION)) == []
