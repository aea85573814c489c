"""Which tests a plan's gates come to: what each counts, what it tolerates, and what it must exclude before users may follow.

| the user writes | against the target | for it |
|---|---|---|
| `at_most` of errors | the rate is above the limit, and the target worse than the source | the rate is below limit/next share |
| `at_most` of a percentile | more than 1-q are slower than the limit, and more than of the source's | fewer are |
| `no_worse_than_source` of errors | over `tolerate` times the source's rate, and over the error floor | below the ratio, or the floor |
| `no_worse_than_source` of a percentile | slower than `tolerate` times the source's percentile | not that much slower |

Limits are staged: at a share s the blend of both engines keeps a limit as long as s times the target's rate does, so a step only has to
exclude what would hurt at the next share. The last step excludes the limit itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate, PromqlGate, latency_name
from crossfade.plan.model import JudgePlan

Measure = Literal["ttft", "duration"]

_DEFAULT_FLOOR = 0.0025


@dataclass(frozen=True)
class ErrorLimit:
    """`error_rate: {at_most}`."""

    gate: str
    limit: float


@dataclass(frozen=True)
class ErrorRatio:
    """`error_rate: {no_worse_than_source}`; below `floor` nobody compares."""

    gate: str
    tolerate: float
    reject: float
    floor: float


@dataclass(frozen=True)
class SlowLimit:
    """`ttft_p95: {at_most}`: `tail` of the requests may be slower than `limit_ms`."""

    gate: str
    measure: Measure
    tail: float
    limit_ms: float


@dataclass(frozen=True)
class SlowRatio:
    """`ttft_p95: {no_worse_than_source}`: the percentile with `tail` above it, against the source's."""

    gate: str
    measure: Measure
    tail: float
    tolerate: float
    reject: float


Test = ErrorLimit | ErrorRatio | SlowLimit | SlowRatio


def name_of(test: Test) -> str:
    """Names the test in the judge's memory: a gate has at most two."""
    return f"{test.gate}/{'limit' if isinstance(test, (ErrorLimit, SlowLimit)) else 'ratio'}"


def tests_of(gates: Mapping[str, Gate], judge: JudgePlan) -> tuple[Test, ...]:
    """All tests of the counting gates, in the plan's order."""
    found: list[Test] = []
    for name, gate in gates.items():
        if isinstance(gate, ErrorRateGate):
            found += _of_errors(name, gate, judge)
        elif isinstance(gate, LatencyGate):
            found += _of_latency(name, gate)
    return tuple(found)


def budget_shares(tests: tuple[Test, ...], judge: JudgePlan) -> dict[str, float]:
    """How the one error budget of a ramp is split: a weighted mean of e-values is an e-value under any dependence."""
    rest = 1 - judge.hard_part - judge.silence_part
    shares = {name_of(test): rest / len(tests) for test in tests}
    return {**shares, "hard": judge.hard_part, "silence": judge.silence_part}


def counting(gates: Mapping[str, Gate]) -> dict[str, ErrorRateGate | LatencyGate]:
    """The gates that count requests."""
    return {name: gate for name, gate in gates.items() if not isinstance(gate, PromqlGate)}


def _inside(rate: float) -> float:
    """A rate that requests can prove or refute: neither never nor always."""
    return min(max(rate, 1e-6), 0.999)


def _of_errors(name: str, gate: ErrorRateGate, judge: JudgePlan) -> list[Test]:
    found: list[Test] = []
    if gate.at_most is not None:
        found.append(ErrorLimit(name, _inside(gate.at_most)))
    if gate.no_worse_than_source is not None:
        floor = judge.error_floor if judge.error_floor != "auto" else gate.at_most / 4 if gate.at_most else _DEFAULT_FLOOR
        found.append(ErrorRatio(name, gate.tolerated, gate.no_worse_than_source, _inside(floor)))
    return found


def _of_latency(name: str, gate: LatencyGate) -> list[Test]:
    measure, q = latency_name(name)
    found: list[Test] = []
    if gate.at_most is not None:
        found.append(SlowLimit(name, measure, 1 - q, gate.at_most))
    if gate.no_worse_than_source is not None:
        found.append(SlowRatio(name, measure, 1 - q, gate.tolerated, gate.no_worse_than_source))
    return found
