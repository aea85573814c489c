"""Made-up engines for the judge: counts with the shares asked for, and one step of a ramp in front of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Counts, Evidence, Histogram, Interval
from crossfade.judge.gate import Judged, Rules, judge
from crossfade.judge.state import JudgeState, begin
from crossfade.plan.gates import Gate
from crossfade.plan.model import JudgePlan, RampPlan

RAMP = RampPlan.model_validate({"steps": ["10%", "50%", "100%"], "hold": "30s", "min_requests": 30})
JUDGE = JudgePlan.model_validate({"settle": "0s", "min_evidence": "30s"})


def histogram(*, fast: int = 0, at_400: int = 0, at_700: int = 0, beyond: int = 0) -> Histogram:
    """Answers below 100 ms, in 250..500, in 500..1000, and over the last bound of 1000 ms."""
    total = fast + at_400 + at_700 + beyond
    return ((100.0, fast), (250.0, fast), (500.0, fast + at_400), (1000.0, total - beyond), (math.inf, total))


def counts(requests: int, errors: int = 0, slow: int = 0) -> Counts:
    """`slow` of the requests that were answered took 700 ms to their first token and to their end."""
    answered = requests - errors
    times = histogram(fast=answered - slow, at_700=slow)
    return Counts(requests=requests, errors=errors, ttft=times, duration=times)


def intervals(target: Counts, source: Counts, count: int, *, first: int = 0, shadow: Counts | None = None) -> tuple[Interval, ...]:
    """`count` intervals of 15 s that are all alike."""
    return tuple(
        Interval(start_s=15.0 * at, end_s=15.0 * at + 15, target=target, source=source, shadow=shadow or Counts())
        for at in range(first, first + count)
    )


def rules(gates: Mapping[str, Gate], ramp: RampPlan = RAMP, plan: JudgePlan = JUDGE) -> Rules:
    known = histogram(fast=9_500, at_400=500)
    return Rules(gates=dict(gates), ramp=ramp, judge=plan, baseline=Baseline(ttft=known, duration=known))


def new() -> JudgeState:
    return begin("1@0", judge=JUDGE, since_s=0.0, halvings=0)


def evidence(given: Sequence[Interval], *, boundary: str = "step", **more: object) -> Evidence:
    where = {"step": (0, 1000, 5000), "cutover": (1, 5000, 10_000), "soak": (2, 10_000, 10_000)}.get(boundary, (-1, 0, 1000))
    usual = {"step": where[0], "share_bp": where[1], "next_share_bp": where[2], "held_s": 600.0}
    return Evidence.model_validate({"boundary": boundary, "intervals": tuple(given), **usual, **more})


def judged(gates: Mapping[str, Gate], given: Sequence[Interval], *, state: JudgeState | None = None, **more: object) -> Judged:
    return judge(rules(gates), state or new(), evidence(given, **more))
