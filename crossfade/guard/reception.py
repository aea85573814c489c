"""What posted alerts do: a grave one that fires trips the route of the migration it names, and nothing else moves anything."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from crossfade.errors import CrossfadeError, UserError
from crossfade.guard.alerts import MIGRATION_LABEL, Alert, parse_alerts
from crossfade.guard.outbox import Notice
from crossfade.guard.tripping import LatchedBefore, NotBack, Tripper
from crossfade.guard.watchlist import Unknown, Watchlist
from crossfade.ports import Clock, Router
from crossfade.rollout.names import route_name
from crossfade.rollout.routes import ModelRoute

Did = Literal["tripped", "nothing", "unknown", "failed"]

_STATUS: dict[Did, int] = {"failed": 503, "unknown": 404}
"""An alert that is answered 503 is sent again by Alertmanager; other answers are final."""


@dataclass(frozen=True)
class Outcome:
    """What one alert did, and why."""

    migration: str
    gate: str
    did: Did
    why: str


@dataclass(frozen=True)
class Reply:
    """An HTTP answer: its status, and JSON whose `why` says in one line what was wrong, if anything was."""

    status: int
    why: str
    outcomes: tuple[Outcome, ...] = ()

    @property
    def body(self) -> bytes:
        """What is sent."""
        return json.dumps({"why": self.why, "alerts": [asdict(outcome) for outcome in self.outcomes]}).encode()


class Reception:
    """Takes alerts in. Works with the journal down: a model that has a route can be tripped."""

    def __init__(self, *, watchlist: Watchlist, router: Router, tripper: Tripper, clock: Clock) -> None:
        self._watchlist, self._router, self._tripper, self._clock = watchlist, router, tripper, clock

    def receive(self, body: bytes) -> Reply:
        """Act on every alert of a request; one that cannot be served does not keep the others from it."""
        try:
            alerts = parse_alerts(body)
        except UserError as error:
            return Reply(422, str(error))
        outcomes = tuple(self._treat(alert) for alert in alerts)
        for did, status in _STATUS.items():
            wrong = [outcome.why for outcome in outcomes if outcome.did == did]
            if wrong:
                return Reply(status, "; ".join(dict.fromkeys(wrong)), outcomes)
        return Reply(200, "", outcomes)

    def _treat(self, alert: Alert) -> Outcome:
        did, why = self._judge(alert)
        return Outcome(alert.migration[:200], alert.gate[:200], did, why)

    def _judge(self, alert: Alert) -> tuple[Did, str]:
        if not alert.migration:
            return "nothing", f"it has no label {MIGRATION_LABEL}, so it is none of ours"
        try:
            routes = {route.name: route for route in self._router.table().routes}
        except CrossfadeError as error:
            return "failed", str(error)
        route = routes.get(route_name(alert.migration))
        if route is None and not self._watchlist.knows(alert.migration):
            if self._watchlist.problem():
                return "failed", f"no route serves {alert.migration[:200]!r}, and the journal cannot be asked: {self._watchlist.problem()}"
            return "unknown", f"no migration is called {alert.migration[:200]!r}"
        if not alert.firing(self._clock.now_s()):
            return "nothing", "it is resolved: only a person raises a share again"
        if not alert.grave:
            return "nothing", "its severity is neither page nor critical"
        if route is None or not route.share_bp:
            return "nothing", "the source has all of this model's requests already"
        return self._trip(alert, route)

    def _trip(self, alert: Alert, route: ModelRoute) -> tuple[Did, str]:
        watched = self._watchlist.of(route.name)
        if not isinstance(watched, Unknown) and watched.finished:
            return "nothing", f"{alert.migration} has finished: its source is no longer kept for a way back"
        notice = Notice(
            route=route.name,
            migration=alert.migration,
            attempt=0 if isinstance(watched, Unknown) else watched.attempt,
            rehearsal=False,
            at_s=self._clock.now_s(),
            reason=alert.reason,
            seen_by="webhook",
            alert=alert,
        )
        done = self._tripper.bring_back(notice)
        if isinstance(done, NotBack):
            return "failed", f"{route.name} could not be tripped: {done.why}"
        if isinstance(done, LatchedBefore):
            return "nothing", f"tripped before by {done.latch.by}: {done.latch.why}"
        return "tripped", done.problem or "the source has all of this model's requests"
