"""Adapters that many migrations use at once, in one process: what costs the same for all of them is done once.

| shared | why it may be |
|---|---|
| one journal | every move is compare-and-swap, whoever sends it |
| one route table, read again when its file or a latch has changed | `Router.apply` reads it under its lock, refuses a stale one |
| connections to each Prometheus; the router's sign of life, and a query's readings, are reused for a second | it scrapes no faster |
| one client of each source | it keeps models warm, and remembers nothing |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.router import EnvoyRouter
from crossfade.guard.heartbeat import GuardPost
from crossfade.home import Home
from crossfade.judge.evidence import Blind, Interval, Reading, Refused
from crossfade.ollama.client import OllamaSource
from crossfade.ollama.warm import Warm
from crossfade.plan import Plan
from crossfade.plan.gates import MEASURES, Measure
from crossfade.plan.load import parse_plan
from crossfade.plan.model import PrometheusPlan
from crossfade.ports import Applied, Clock, Journal, Metrics, Router
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.ramp.logbook import Desk
from crossfade.rollout.routes import Latch, ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store import open_journal

REUSED_FOR_S = 1.0
"""How old a reading may be that another migration asked for: the shortest scrape interval anybody uses."""

_SOURCE_TIMEOUT_S = 60

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Once(Generic[Key, Made]):
    """Something made on first use by key; whoever asks meanwhile waits for it. What the maker raises is raised, and not kept."""

    def __init__(self, make: Callable[[Key], Made]) -> None:
        self._make = make
        self._made: dict[Key, Made] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Key) -> Made:
        """What was made for this key, now or before."""
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(key)
            return self._made[key]


class SharedRouter:
    """`ports.Router` whose table and latches are read again only after a change in the route folder. Safe in several threads."""

    def __init__(self, folder: Path) -> None:
        self._router, self._folder = EnvoyRouter(folder), RouteFolder(folder)
        self._lock = threading.Lock()
        self._table: tuple[object, RouteTable] | None = None
        self._latches: tuple[object, Mapping[str, Latch]] | None = None

    def table(self) -> RouteTable:
        """The table in the route folder; raises PermanentError when the route file is broken."""
        with self._lock:
            mark = self._folder.mark()  # before the file is read: a change in between is found by the next call
            if self._table is None or mark is None or self._table[0] != mark:
                self._table = (mark, self._router.table())
            return self._table[1]

    def latches(self) -> Mapping[str, Latch]:
        """Latched route names and why."""
        with self._lock:
            mark = self._folder.mark()
            if self._latches is None or mark is None or self._latches[0] != mark:
                self._latches = (mark, self._router.latches())
            return self._latches[1]

    def observed(self) -> RouteTable:
        """The table in Envoy's own dump, always asked for; raises Unreachable."""
        return self._router.observed()

    def refuse_elsewhere(self, name: str) -> None:
        """As `EnvoyRouter.refuse_elsewhere`."""
        self._router.refuse_elsewhere(name)

    def apply(self, change: ModelRoute, expect: int) -> Applied:
        """As `EnvoyRouter.apply`."""
        return self._router.apply(change, expect)

    def remove(self, name: str, expect: int) -> Applied:
        """As `EnvoyRouter.remove`."""
        return self._router.remove(name, expect)

    def trip(self, name: str, *, why: str, by: str, at_s: float) -> Applied:
        """As `EnvoyRouter.trip`."""
        return self._router.trip(name, why=why, by=by, at_s=at_s)

    def resume(self, name: str) -> None:
        """As `EnvoyRouter.resume`."""
        self._router.resume(name)


@dataclass
class _Answer:
    lock: threading.Lock = field(default_factory=threading.Lock)
    at_s: float = float("-inf")
    found: Reading | Blind | None = None


class SharedMetrics:
    """`ports.Metrics` that asks the same PromQL once a second, however many migrations ask it. Counts are asked for each time."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def read(self, gate: str, promql: str) -> Reading | Blind:
        """The one number the query gives, at most `REUSED_FOR_S` old; why there is none is reused as well."""
        with self._lock:
            answer = self._answers.setdefault(promql, _Answer())
        with answer.lock:
            age_s = self._clock.now_s() - answer.at_s
            if answer.found is None or not 0 <= age_s <= REUSED_FOR_S:
                answer.found, answer.at_s = self._metrics.read(gate, promql), self._clock.now_s()
            return answer.found.model_copy(update={"gate": gate})

    def intervals(self, route: str, *, since_s: float, now_s: float, measures: frozenset[Measure] = MEASURES) -> Sequence[Interval] | Blind:
        """As `PrometheusMetrics.intervals`."""
        return self._metrics.intervals(route, since_s=since_s, now_s=now_s, measures=measures)

    def complete_intervals(
        self, route: str, *, since_s: float, now_s: float, every_s: float = 15.0, measures: frozenset[Measure] = MEASURES
    ) -> Sequence[Interval] | Blind:
        """As `PrometheusMetrics.complete_intervals`."""
        return self._metrics.complete_intervals(route, since_s=since_s, now_s=now_s, every_s=every_s, measures=measures)

    def bounds(self, route: str, measure: Measure) -> tuple[float, ...] | Blind:
        """As `PrometheusMetrics.bounds`."""
        return self._metrics.bounds(route, measure)

    def probe(self, gate: str, promql: str) -> Reading | Blind | Refused:
        """As `PrometheusMetrics.probe`."""
        return self._metrics.probe(gate, promql)


class Shared:
    """Desks for all migrations of one home, over the same adapters. Made for one sweep and thrown away."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self.journal: Journal = open_journal(home)
        self.clock = clock
        self._router: Router = SharedRouter(home.router)
        self._watchman = GuardPost(home)
        self._plans = Once(self._parsed)
        self._metrics = Once(self._asked)
        self._sources: Once[str, OllamaSource] = Once(lambda url: OllamaSource(url, timeout_s=_SOURCE_TIMEOUT_S))

    def plan(self, digest: str) -> Plan:
        """The plan a migration was begun with; raises PlanInvalid for one that this version of ours cannot read."""
        return self._plans(digest)

    def desk(self, state: MigrationState) -> Desk:
        """What a tick of this migration needs; raises as `plan`."""
        plan = self.plan(state.plan_digest)
        model = plan.model(state.name.split("/", 1)[1])
        return Desk(
            plan=plan,
            journal=self.journal,
            router=self._router,
            metrics=self._metrics(plan.prometheus),
            watchman=self._watchman,
            standby=Warm(self._sources(plan.source.url), model.ollama),
            clock=self.clock,
        )

    def _parsed(self, digest: str) -> Plan:
        # Paths in a stored plan were made absolute when it was begun, so the folder here does not matter.
        return parse_plan(self.journal.plan_text(digest), origin=f"plan {digest[:12]}", folder=Path("/")).plan

    def _asked(self, prometheus: PrometheusPlan) -> SharedMetrics:
        timeout_s, stale_after_s = prometheus.timeout, prometheus.stale_after
        asked = PrometheusMetrics(prometheus.url, timeout_s=timeout_s, stale_after_s=stale_after_s, reused_for_s=REUSED_FOR_S)
        return SharedMetrics(asked, self.clock)
