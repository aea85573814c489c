"""Crossfade's own judge, fed as the ramp feeds it: new whole intervals at each tick, one state handed on as JSON between ticks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from crossfade.judge.baseline import learn_baseline
from crossfade.judge.evidence import Counts, Evidence, Histogram, Interval
from crossfade.judge.gate import Rules, judge
from crossfade.judge.state import begin
from crossfade.judge.verdict import Decision, Verdict
from crossfade.plan.load import parse_plan
from crossfade.plan.model import Plan
from judge_bench.ramp import Pace, Stage
from judge_bench.world import INTERVAL_S, Arm, Ints, Seen

PLAN_FILE = Path(__file__).parents[1] / "scenarios" / "plan.yaml"
EPOCH_S = 1_764_000_000.0
"""The ramp's first step in the seconds since the epoch that intervals are labelled with."""

_BLIND = "simulated: Prometheus cannot be read"


def read_plan(path: Path = PLAN_FILE) -> Plan:
    """The plan everything here is judged by; raises PlanInvalid."""
    return parse_plan(path.read_text(), origin=str(path), folder=path.parent).plan


def pace_of(plan: Plan) -> Pace:
    """Steps and ticks of the plan; the soak and the horizon are the benchmark's own."""
    return Pace(steps=tuple(step / 10_000 for step in plan.ramp.steps), tick_s=plan.ramp.every)


class Crossfade:
    """The product's judge as one rule among others."""

    def __init__(self, bounds_ms: tuple[float, ...], *, plan: Plan, soak_s: float) -> None:
        self._bounds_ms, self._plan, self._soak_s = bounds_ms, plan, soak_s
        self._gap = list[tuple[Arm, Arm]]()
        self._unread = list[Interval]()
        self._cursor_s = EPOCH_S
        self.verdict: Verdict | None = None

    def learn(self, baseline: Callable[[], Seen]) -> None:
        """As at the end of `observing`."""
        before = baseline()
        start_s = EPOCH_S + before.start_s
        intervals = [
            Interval(
                start_s=start_s + index * INTERVAL_S,
                end_s=start_s + (index + 1) * INTERVAL_S,
                source=_counts([_part(before.source, index)], self._bounds_ms),
            )
            for index in range(len(before))
        ]
        plan = self._plan
        learned = learn_baseline(intervals, asked_s=plan.baseline, gates=plan.gates, judge=plan.judge)
        self._rules = Rules(gates=plan.gates, ramp=plan.ramp, judge=plan.judge, baseline=learned)
        self._state = begin(f"1@{EPOCH_S:.0f}", judge=plan.judge, since_s=EPOCH_S, halvings=0)

    def decide(self, stage: Stage, seen: Seen) -> Decision:
        """One tick. What was counted while Prometheus could not be read comes as one long interval afterwards."""
        self._take(seen)
        sees = bool(seen.visible[-1])
        evidence = Evidence(
            boundary=_boundary(stage),
            step=stage.step,
            share_bp=round(stage.share * 10_000),
            next_share_bp=round(stage.next_share * 10_000),
            held_s=stage.held_s,
            intervals=tuple(self._unread) if sees else (),
            blind="" if sees else _BLIND,
        )
        if sees:
            self._unread = []
        judged = judge(self._rules, self._state, evidence)
        self._state, self.verdict = judged.state, judged.verdict
        decision = judged.verdict.decision
        return Decision.HOLD if decision is Decision.PROMOTE and stage.last and stage.held_s < self._soak_s else decision

    def memory_bytes(self) -> int:
        """What the journal would store."""
        return len(self._state.model_dump_json().encode())

    def _take(self, seen: Seen) -> None:
        for index in range(len(seen)):
            self._gap.append((_part(seen.source, index), _part(seen.target, index)))
            if seen.visible[index]:
                end_s = EPOCH_S + seen.start_s + (index + 1) * INTERVAL_S
                source, target = (_counts([both[arm] for both in self._gap], self._bounds_ms) for arm in (0, 1))
                self._unread.append(Interval(start_s=self._cursor_s, end_s=end_s, source=source, target=target))
                self._cursor_s, self._gap = end_s, []


def _boundary(stage: Stage) -> Literal["step", "cutover", "soak"]:
    if stage.last:
        return "soak"
    return "cutover" if stage.next_share == 1 else "step"


def _part(arm: Arm, index: int) -> Arm:
    return Arm(arm.requests[index], arm.errors[index], arm.timed[index])


def _counts(parts: Sequence[Arm], bounds_ms: tuple[float, ...]) -> Counts:
    timed = parts[0].timed if len(parts) == 1 else np.sum([part.timed for part in parts], axis=0)
    return Counts(
        requests=int(sum(part.requests for part in parts)),
        errors=int(sum(part.errors for part in parts)),
        ttft=_histogram(timed, bounds_ms),
    )


def _histogram(timed: Ints, bounds_ms: tuple[float, ...]) -> Histogram:
    """Cumulative, with the total at infinity; no histogram at all where nothing was answered, as Prometheus' adapter gives it."""
    cumulated = np.cumsum(timed).tolist()
    return tuple(zip((*bounds_ms, float("inf")), cumulated, strict=True)) if cumulated[-1] else ()
