"""The guard's loop: look at every route with traffic on a target, and trip those whose target plainly fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from crossfade.errors import CrossfadeError
from crossfade.guard.clerk import Clerk
from crossfade.guard.heartbeat import POLL_S, BlindSince, beat, my_heartbeat
from crossfade.guard.listening import Ear
from crossfade.guard.outbox import Notice, Outbox
from crossfade.guard.saying import Troubles, say
from crossfade.guard.systemd import notify
from crossfade.guard.tripping import LatchedBefore, Tripper
from crossfade.guard.vitals import Vitals
from crossfade.guard.watchlist import Unknown, Watched, Watchlist
from crossfade.home import Home
from crossfade.judge.breach import Breach, hard_breach
from crossfade.judge.evidence import Blind, Interval
from crossfade.plan.gates import Measure
from crossfade.plan.model import PrometheusPlan
from crossfade.ports import Clock, Metrics, Router
from crossfade.rollout.names import is_rehearsal
from crossfade.rollout.routes import Latch, ModelRoute

_LOOKING_AT_ONCE = 8
_SETTLE_S = 3.0
"""How late a request may be counted: the router flushes and Prometheus scrapes, each once a second in the lab."""

_ROUTE_FOLDER = "(route folder)"

_MEASURES: frozenset[Measure] = frozenset({"ttft"})
"""What a hard breach counts beside failures: a question a second should ask for no more."""


@dataclass(frozen=True)
class _Seen:
    """What one look at a route gave."""

    route: ModelRoute
    watched: Watched | Unknown
    found: tuple[Interval, ...] | Blind


@dataclass
class Guard:
    """Watches all routes of one home. `clerk` and `ear` work beside it; in a test all are driven by hand."""

    home: Home
    router: Router
    clock: Clock
    metrics_for: Callable[[PrometheusPlan], Metrics]
    watchlist: Watchlist
    outbox: Outbox
    tripper: Tripper
    vitals: Vitals
    clerk: Clerk
    ear: Ear
    _metrics: dict[PrometheusPlan, Metrics] = field(default_factory=dict)
    _blind: dict[str, BlindSince] = field(default_factory=dict)
    _latched_at: dict[str, float] = field(default_factory=dict)
    _last_routes: tuple[ModelRoute, ...] = ()
    _troubles: Troubles = field(default_factory=Troubles)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_LOOKING_AT_ONCE, "guard-look"))

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop`, once a second. Nothing but `stop` ends it."""
        threading.Thread(target=self.clerk.run, args=(stop, POLL_S), daemon=True, name="guard-clerk").start()
        if self.ear.settings.host:
            threading.Thread(target=self.ear.run, args=(stop,), daemon=True, name="guard-ear").start()
        say("guarding", home=self.home.root)
        while not stop.is_set():
            began_s = self.clock.now_s()
            try:
                self.watch_once()
            except Exception as error:  # a guard that died of a surprise guards nobody
                self._troubles.begins("poll_failed", "poll", f"{type(error).__name__}: {error}")
            else:
                self._troubles.over("poll_succeeds_again", "poll")
                notify("READY=1\nWATCHDOG=1")
            self.clock.sleep(max(0.0, began_s + POLL_S - self.clock.now_s()))
        notify("STOPPING=1")

    def watch_once(self) -> None:
        """One poll: look, trip what breaches, leave a sign of life."""
        blind: dict[str, str] = {}
        try:
            self._last_routes = self.router.table().routes
        except (CrossfadeError, OSError) as error:  # what Envoy read last is still in force, so that is still watched
            blind[_ROUTE_FOLDER] = str(error)
        routes = self._routes_with_traffic(self._last_routes)
        seen = list(self._pool.map(self._look, routes))
        for one in seen:
            if isinstance(one.watched, Watched) and not isinstance(one.found, Blind):
                breach = hard_breach(one.watched.guard, one.found)
                if isinstance(breach, Breach):
                    self._bring_back(one.route.name, one.watched, one.found, breach)
        blind |= {one.route.name: one.found.why for one in seen if isinstance(one.found, Blind)}
        self._note_blindness(blind)
        self._beat(tuple(route.name for route in routes))

    def _routes_with_traffic(self, routes: tuple[ModelRoute, ...]) -> list[ModelRoute]:
        """Also finishes a trip whose latch is there and whose share is not yet 0: its author died in between."""
        latches, now_s = self.router.latches(), self.clock.now_s()
        self._latched_at = {name: at_s for name, at_s in self._latched_at.items() if at_s > now_s - 3600} | dict.fromkeys(latches, now_s)
        sharing = [route for route in routes if route.share_bp > 0]
        for route in sharing:
            if route.name in latches:
                self._finish_trip(route.name, latches[route.name])
        return [route for route in sharing if route.name not in latches and not self._finished(route.name)]

    def _finish_trip(self, name: str, latch: Latch) -> None:
        try:
            self.router.trip(name, why=latch.why, by=latch.by, at_s=latch.at_s)
        except (CrossfadeError, OSError) as error:  # the others still want to be looked at
            self._troubles.begins("trip_unfinished", name, str(error))
        else:
            self._troubles.over("trip_in_force", name)
            say("trip_finished", route=name, why=latch.why, by=latch.by)

    def _finished(self, name: str) -> bool:
        watched = self.watchlist.of(name)
        return isinstance(watched, Watched) and watched.finished

    def _look(self, route: ModelRoute) -> _Seen:
        watched = self.watchlist.of(route.name)
        if isinstance(watched, Unknown):
            return _Seen(route, watched, Blind(gate=route.name, why=watched.why))
        try:
            return _Seen(route, watched, self._evidence(route, watched))
        except Exception as error:  # whatever one Prometheus made us stumble over, the other routes are looked at
            return _Seen(route, watched, Blind(gate=route.name, why=f"{type(error).__name__}: {error}"))

    def _evidence(self, route: ModelRoute, watched: Watched) -> tuple[Interval, ...] | Blind:
        if watched.prometheus not in self._metrics:
            self._metrics[watched.prometheus] = self.metrics_for(watched.prometheus)
        now_s = self.clock.now_s()
        # what failed before the latch was lifted belongs to the breach before, not to the new attempt
        since_s = max(now_s - watched.guard.window, self._latched_at.get(route.name, 0.0) + _SETTLE_S)
        if since_s >= now_s:
            return ()
        found = self._metrics[watched.prometheus].intervals(route.name, since_s=since_s, now_s=now_s, measures=_MEASURES)
        return found if isinstance(found, Blind) else tuple(found)

    def _bring_back(self, name: str, watched: Watched, found: tuple[Interval, ...], breach: Breach) -> None:
        """A trip that fails is tried again at the next poll: the breach will still be there."""
        now_s = self.clock.now_s()
        done = self.tripper.bring_back(
            Notice(
                route=name,
                migration=watched.migration,
                attempt=watched.attempt,
                rehearsal=is_rehearsal(name),
                at_s=now_s,
                reason=breach.reason,
                numbers=asdict(breach.numbers),
                guard=watched.guard,
                intervals=found,
            )
        )
        if isinstance(done, LatchedBefore):
            say("tripped_before", route=name, reason=breach.reason, by=done.latch.by, why=done.latch.why)

    def _note_blindness(self, why: dict[str, str]) -> None:
        now_s = self.clock.now_s()
        for name in self._blind.keys() - why.keys():
            say("sees_again", route=name, blind_for_s=round(now_s - self._blind[name].since_s, 1))
        for name in why.keys() - self._blind.keys():
            say("blind", route=name, why=why[name])
        self._blind = {name: self._blind.get(name, BlindSince(since_s=now_s, why=reason)) for name, reason in why.items()}

    def _beat(self, routes: tuple[str, ...]) -> None:
        heartbeat = my_heartbeat(self.clock.now_s(), routes, self._blind, self.vitals.listens)
        self.vitals.beat(heartbeat)
        try:
            beat(self.home, heartbeat)
        except OSError as error:
            self._troubles.begins("no_heartbeat", "heartbeat", str(error))
        else:
            self._troubles.over("heartbeat_again", "heartbeat")
