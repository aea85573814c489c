"""The guard's loop: look at every route with traffic on a target, and trip those whose target plainly fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from crossfade.errors import CrossfadeError
from crossfade.guard.clerk import BY, Clerk
from crossfade.guard.heartbeat import POLL_S, BlindSince, beat, my_heartbeat
from crossfade.guard.outbox import Notice, Outbox
from crossfade.guard.saying import say
from crossfade.guard.watchlist import Unknown, Watched, Watchlist
from crossfade.home import Home
from crossfade.judge.breach import Breach, hard_breach
from crossfade.judge.evidence import Blind, Interval
from crossfade.plan.model import PrometheusPlan
from crossfade.ports import Clock, Metrics, Router
from crossfade.rollout.names import is_rehearsal
from crossfade.rollout.routes import ModelRoute

_LOOKING_AT_ONCE = 8
_SETTLE_S = 3.0
"""How late a request may be counted: the router flushes and Prometheus scrapes, each once a second in the lab."""

_ROUTE_FOLDER = "(route folder)"


@dataclass(frozen=True)
class _Seen:
    """What one look at a route gave."""

    route: ModelRoute
    watched: Watched | Unknown
    found: tuple[Interval, ...] | Blind


@dataclass
class Guard:
    """Watches all routes of one home. `clerk` works beside it; in a test both are driven by hand."""

    home: Home
    router: Router
    clock: Clock
    metrics_for: Callable[[PrometheusPlan], Metrics]
    watchlist: Watchlist
    outbox: Outbox
    clerk: Clerk
    _metrics: dict[PrometheusPlan, Metrics] = field(default_factory=dict)
    _blind: dict[str, BlindSince] = field(default_factory=dict)
    _latched_at: dict[str, float] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_LOOKING_AT_ONCE, "guard-look"))

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop`, once a second. Nothing but `stop` ends it."""
        threading.Thread(target=self.clerk.run, args=(stop, POLL_S), daemon=True, name="guard-clerk").start()
        say("guarding", home=self.home.root)
        while not stop.is_set():
            began_s = self.clock.now_s()
            try:
                self.watch_once()
            except Exception as error:  # a guard that died of a surprise guards nobody
                say("poll_failed", why=f"{type(error).__name__}: {error}")
            self.clock.sleep(max(0.0, began_s + POLL_S - self.clock.now_s()))

    def watch_once(self) -> None:
        """One poll: look, trip what breaches, leave a sign of life."""
        try:
            routes = self._routes_with_traffic()
        except (CrossfadeError, OSError) as error:
            self._note_blindness({_ROUTE_FOLDER: str(error)})
            self._beat(())
            return
        seen = list(self._pool.map(self._look, routes))
        for one in seen:
            if isinstance(one.watched, Watched) and not isinstance(one.found, Blind):
                breach = hard_breach(one.watched.guard, one.found)
                if isinstance(breach, Breach):
                    self._bring_back(one.route.name, one.watched, one.found, breach)
        self._note_blindness({one.route.name: one.found.why for one in seen if isinstance(one.found, Blind)})
        self._beat(tuple(route.name for route in routes))

    def _routes_with_traffic(self) -> list[ModelRoute]:
        """Also finishes a trip whose latch is there and whose share is not yet 0: its author died in between."""
        latches, now_s = self.router.latches(), self.clock.now_s()
        self._latched_at = {name: at_s for name, at_s in self._latched_at.items() if at_s > now_s - 3600} | dict.fromkeys(latches, now_s)
        sharing = [route for route in self.router.table().routes if route.share_bp > 0]
        for route in sharing:
            if route.name in latches:
                latch = latches[route.name]
                self.router.trip(route.name, why=latch.why, by=latch.by, at_s=latch.at_s)
                say("trip_finished", route=route.name, why=latch.why, by=latch.by)
        return [route for route in sharing if route.name not in latches]

    def _look(self, route: ModelRoute) -> _Seen:
        watched = self.watchlist.of(route.name)
        if isinstance(watched, Unknown):
            return _Seen(route, watched, Blind(gate=route.name, why=watched.why))
        if watched.prometheus not in self._metrics:
            self._metrics[watched.prometheus] = self.metrics_for(watched.prometheus)
        now_s = self.clock.now_s()
        # what failed before the latch was lifted belongs to the breach before, not to the new attempt
        since_s = max(now_s - watched.guard.window, self._latched_at.get(route.name, 0.0) + _SETTLE_S)
        if since_s >= now_s:
            return _Seen(route, watched, ())
        found = self._metrics[watched.prometheus].intervals(route.name, since_s=since_s, now_s=now_s)
        return _Seen(route, watched, found if isinstance(found, Blind) else tuple(found))

    def _bring_back(self, name: str, watched: Watched, found: tuple[Interval, ...], breach: Breach) -> None:
        """The route first; everybody else hears of it afterwards, from the clerk."""
        at_s, problem, seconds = self.clock.now_s(), "", 0.0
        try:
            seconds = self.router.trip(name, why=breach.reason, by=BY, at_s=at_s).seconds
        except (CrossfadeError, OSError) as error:
            problem = str(error)
            if name not in self.router.latches():
                say("trip_failed", route=name, why=problem)
                return  # the breach is still there at the next poll
        self._latched_at[name] = at_s
        say("tripped", route=name, reason=breach.reason, seconds=round(seconds, 4), problem=problem, **asdict(breach.numbers))
        self.outbox.put(
            Notice(
                route=name,
                migration=watched.migration,
                attempt=watched.attempt,
                rehearsal=is_rehearsal(name),
                at_s=at_s,
                reason=breach.reason,
                numbers=asdict(breach.numbers),
                seconds=seconds,
                problem=problem,
                guard=watched.guard,
                intervals=found,
            )
        )
        self.clerk.wake.set()

    def _note_blindness(self, why: dict[str, str]) -> None:
        now_s = self.clock.now_s()
        for name in self._blind.keys() - why.keys():
            say("sees_again", route=name, blind_for_s=round(now_s - self._blind[name].since_s, 1))
        for name in why.keys() - self._blind.keys():
            say("blind", route=name, why=why[name])
        self._blind = {name: self._blind.get(name, BlindSince(since_s=now_s, why=reason)) for name, reason in why.items()}

    def _beat(self, routes: tuple[str, ...]) -> None:
        try:
            beat(self.home, my_heartbeat(self.clock.now_s(), routes, self._blind))
        except OSError as error:
            say("no_heartbeat", why=str(error))
