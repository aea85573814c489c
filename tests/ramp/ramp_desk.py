"""A desk with the real router and the real journal; evidence is given as data and time is moved by hand."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.envoy import process as envoy_process
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.home import Home
from crossfade.judge.evidence import Blind, Counts, Histogram, Interval, Reading
from crossfade.plan.gates import MEASURES, Measure
from crossfade.plan.load import parse_plan
from crossfade.ports import Applied, NotReady, Ready, Unwatched, Watching
from crossfade.processes import Program
from crossfade.ramp.logbook import Desk
from crossfade.ramp.tick import tick
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

MIGRATION, ROUTE = "chat/lab-latest", "chat.lab-latest"
TS0 = 1_000.0  # when the migration began

PLAN = """
name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: "lab:latest", huggingface: a/b}]
gates:
  error_rate: {at_most: 1%}
  kv_cache: {promql: 'max(vllm:kv_cache_usage_perc)', below: 0.9, before: [ramp, cutover]}
ramp: {every: 20s, hold: 30s, min_requests: 100, steps: [10%, 50%, 100%], deadline: 1h, at_deadline: roll_back}
judge: {min_evidence: 15s}
soak: 5m
"""


@dataclass
class HandClock:
    """Time that moves only when told."""

    at_s: float = TS0

    def now_s(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds


@dataclass
class Given:
    """Evidence as data: every whole interval that is asked for shows the same counts."""

    each: Interval | Blind | None = None
    readings: dict[str, float] = field(default_factory=lambda: {"kv_cache": 0.1, "target_started": 500.0})

    def intervals(self, route: str, *, since_s: float, now_s: float, measures: frozenset[Measure] = MEASURES) -> Sequence[Interval] | Blind:
        return self.complete_intervals(route, since_s=since_s, now_s=now_s, measures=measures)

    def complete_intervals(
        self, route: str, *, since_s: float, now_s: float, every_s: float = 15.0, measures: frozenset[Measure] = MEASURES
    ) -> Sequence[Interval] | Blind:
        if isinstance(self.each, Blind) or self.each is None:
            return self.each or ()
        whole = int((now_s - since_s) / every_s + 1e-9)
        starts = [since_s + every_s * index for index in range(whole)]
        not_asked = dict.fromkeys(MEASURES - measures, ())  # as Prometheus: who does not ask for a histogram gets none
        seen = {arm: getattr(self.each, arm).model_copy(update=not_asked) for arm in ("source", "target", "shadow")}
        return tuple(self.each.model_copy(update={**seen, "start_s": start, "end_s": start + every_s}) for start in starts)

    def read(self, gate: str, promql: str) -> Reading | Blind:
        return Reading(gate=gate, value=self.readings[gate]) if gate in self.readings else Blind(gate=gate, why="no such series")


@dataclass
class Source:
    """A source that could take everything back, until it could not."""

    state: Ready | NotReady = field(default_factory=Ready)

    def stands_ready(self) -> Ready | NotReady:
        return self.state


@dataclass
class Post:
    """A guard that watches, until it does not."""

    state: Watching | Unwatched = field(default_factory=Watching)

    def watches(self, route: str, *, now_s: float) -> Watching | Unwatched:
        return self.state


class Overtaken(EnvoyRouter):
    """A router whose table another migration moves between a writer's look at it and its change, so many times."""

    def __init__(self, folder: Path, *, times: int) -> None:
        super().__init__(folder)
        self._other, self._left = EnvoyRouter(folder), times

    def apply(self, change: ModelRoute, expect: int) -> Applied:
        if self._left:
            self._left -= 1
            self._other.apply(ModelRoute(name="other", models=("other",)), expect=self._other.table().generation)
        return super().apply(change, expect)


def fast(requests: int) -> Histogram:
    return ((50.0, requests), (float("inf"), requests))


def good(requests: int = 500) -> Interval:
    counts = Counts(requests=requests, errors=0, ttft=fast(requests), duration=fast(requests))
    return Interval(start_s=TS0, end_s=TS0 + 15, source=counts, target=counts)


def failing(requests: int = 500, errors: int = 100) -> Interval:
    well = Counts(requests=requests, ttft=fast(requests), duration=fast(requests))
    ill = Counts(requests=requests, errors=errors, ttft=fast(requests), duration=fast(requests))
    return Interval(start_s=TS0, end_s=TS0 + 15, source=well, target=ill)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_envoy(folder: Path) -> tuple[Home, Program]:
    home = Home(folder)
    stack = Stack(
        listen=f"127.0.0.1:{free_port()}",
        metrics_listen=f"127.0.0.1:{free_port()}",
        source="127.0.0.1:1",
        target="127.0.0.1:2",
        folder=home.router,
    )
    return home, envoy_process.start(stack, home)


def rehearsed(home: Home) -> tuple[Desk, Given, HandClock]:
    """A migration that is ready to ramp, its route at share 0."""
    plan = parse_plan(PLAN, origin="test", folder=Path("/")).plan
    given, clock = Given(), HandClock()
    desk = Desk(
        plan=plan,
        journal=SqlJournal(home.journal),
        router=EnvoyRouter(home.router),
        metrics=given,
        watchman=Post(),
        standby=Source(),
        clock=clock,
    )
    first = MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=TS0, share_since_s=TS0)
    state = desk.journal.begin(first, PLAN)
    desk.router.apply(ModelRoute(name=ROUTE, models=("lab:latest",)), expect=desk.router.table().generation)
    for phase in ("assessed", "observing", "downloaded", "quantized", "serving", "proven", "rehearsed"):
        state = desk.enter(state, Phase(phase), "test")
    return desk, given, clock


def in_force(desk: Desk) -> int:
    """The share in Envoy's own dump; it must agree with the route file."""
    share_bp = desk.router.observed().route(ROUTE).share_bp
    assert desk.router.table().route(ROUTE).share_bp == share_bp
    return share_bp


def at_half(desk: Desk, given: Given, clock: HandClock) -> None:
    given.each = good()
    tick(desk, MIGRATION)
    clock.sleep(61)
    assert tick(desk, MIGRATION).state.share_bp == 5000
