"""The one way the guard trips a route, whoever saw the breach: the route first, and then a notice for everybody else."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.errors import CrossfadeError
from crossfade.guard.outbox import Notice, Outbox
from crossfade.guard.saying import Troubles, say
from crossfade.guard.vitals import Vitals
from crossfade.ports import Router
from crossfade.rollout.routes import Latch

BY = "guard"
"""Who a latch of ours says it is by."""


@dataclass(frozen=True)
class BroughtBack:
    """We tripped it, and the notice is in the outbox. `problem` says what could not be verified."""

    problem: str


@dataclass(frozen=True)
class LatchedBefore:
    """Somebody else was first, and tells of it; the route is back."""

    latch: Latch


@dataclass(frozen=True)
class NotBack:
    """There is no latch: the route stands as it was, and must be tried again."""

    why: str


class Tripper:
    """Trips routes for the poll and for the webhook; `told` is set when there is something to tell."""

    def __init__(self, *, router: Router, outbox: Outbox, vitals: Vitals, told: threading.Event) -> None:
        self._router, self._outbox, self._vitals, self._told = router, outbox, vitals, told
        self._lock = threading.Lock()
        self._troubles = Troubles()

    def bring_back(self, notice: Notice) -> BroughtBack | LatchedBefore | NotBack:
        """Trip the route of a notice. Of several that want the same at once, one gets `BroughtBack`, and one notice is left."""
        self._vitals.breaches.labels(notice.seen_by).inc()
        with self._lock:
            before = self._latches().get(notice.route)
            problem, seconds = "", 0.0
            try:
                seconds = self._router.trip(notice.route, why=notice.reason, by=BY, at_s=notice.at_s).seconds
            except (CrossfadeError, OSError) as error:
                problem = str(error)
            latch = self._latches().get(notice.route)
        if latch is None:
            self._vitals.failed_trips.labels(notice.seen_by).inc()
            self._troubles.begins("trip_failed", notice.route, problem)
            return NotBack(problem or "the latch is gone again")
        self._troubles.over("trip_succeeded", notice.route)
        if before or (latch.by, latch.at_s) != (BY, notice.at_s):
            return LatchedBefore(latch)
        self._vitals.trips.labels(notice.seen_by).inc()
        say("tripped", route=notice.route, reason=notice.reason, seconds=round(seconds, 4), problem=problem, **notice.numbers)
        self._outbox.put(notice.model_copy(update={"seconds": seconds, "problem": problem}))
        self._told.set()
        return BroughtBack(problem)

    def _latches(self) -> Mapping[str, Latch]:
        try:
            return self._router.latches()
        except OSError:
            return {}
