"""Waiting at a gate before any traffic, while people and other runs go on with the same migration; router and journal are real."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, Given, HandClock, rehearsed, start_envoy

from crossfade import processes
from crossfade.errors import StaleWriter
from crossfade.judge.verdict import Decision
from crossfade.ramp import orders
from crossfade.ramp.gatekeeper import pass_boundary
from crossfade.ramp.logbook import Desk
from crossfade.ramp.rollback import roll_back


@dataclasses.dataclass
class Meanwhile(HandClock):
    """Time in which somebody does something at the first wait."""

    does: Callable[[], object] | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        does, self.does = self.does, None
        if does:
            does()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Desk, Given]]:
    """A migration whose gate before the ramp holds."""
    home, envoy = start_envoy(tmp_path)
    try:
        desk, given, _ = rehearsed(home)
        given.readings["kv_cache"] = 0.95
        yield desk, given
    finally:
        processes.stop(envoy, deadline_s=5)


def test_a_pause_does_not_end_the_wait_at_a_gate(waiting: tuple[Desk, Given]) -> None:
    desk, given = waiting

    def paused() -> None:
        orders.pause(desk, MIGRATION, by="ada", why="because")
        given.readings["kv_cache"] = 0.1

    waits = dataclasses.replace(desk, clock=Meanwhile(does=paused))
    ruled = pass_boundary(waits, desk.journal.state(MIGRATION), "ramp", patience_s=60)
    assert (ruled.verdict.decision, ruled.state.paused_by) == (Decision.PROMOTE, "ada")


def test_a_rollback_ends_the_wait_at_a_gate(waiting: tuple[Desk, Given]) -> None:
    desk, _ = waiting
    waits = dataclasses.replace(desk, clock=Meanwhile(does=lambda: roll_back(desk, MIGRATION, why="because", by="ada")))
    with pytest.raises(StaleWriter):
        pass_boundary(waits, desk.journal.state(MIGRATION), "ramp", patience_s=60)
