"""Waiting until something has nothing left to do, with an end to the waiting and a word about what was left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crossfade.ports import Clock

_POLL_S = 0.1


@dataclass(frozen=True)
class Drained:
    """How a wait ended: `still_active` requests ran on at the deadline, 0 when all had finished."""

    still_active: int
    seconds: float


def wait_until_idle(active: Callable[[], int], *, deadline_s: float, clock: Clock) -> Drained:
    """Ask `active` until it says 0 or the deadline has passed; it is asked at least once, and what it raises is passed on."""
    began_s = clock.now_s()
    while (left := active()) and clock.now_s() - began_s < deadline_s:
        clock.sleep(_POLL_S)
    return Drained(left, clock.now_s() - began_s)
