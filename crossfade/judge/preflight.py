"""Whether the router's histograms are fine enough for the plan's latency gates; asked before anything moves.

Latencies are known at the histogram's bounds alone. A limit between two of them is rounded against the target
where it must be proven, and a ratio that does not reach the next bound can never be proven (2.5 and 4 of the statistics' source).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isfinite

from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Measure
from crossfade.judge.latencies import percentile_bound
from crossfade.judge.tests_of import SlowLimit, SlowRatio, tests_of
from crossfade.plan.gates import Gate
from crossfade.plan.model import JudgePlan
from crossfade.plan.units import format_seconds

_SAME = 1e-9


@dataclass(frozen=True)
class TooCoarse:
    """A gate these bounds cannot judge, and what to write instead."""

    gate: str
    why: str


def too_coarse(
    gates: Mapping[str, Gate], judge: JudgePlan, bounds: Mapping[Measure, Sequence[float]], baseline: Baseline | None = None
) -> tuple[TooCoarse, ...]:
    """Every latency gate that these upper bounds in milliseconds cannot judge; infinite ones are left out of account.

    With a baseline a ratio is judged at the source's own percentile, without one at every bound from 10 ms to the last.
    """
    found = []
    for test in tests_of(gates, judge):
        if isinstance(test, (SlowLimit, SlowRatio)):
            finite = sorted(bound for bound in bounds.get(test.measure, ()) if isfinite(bound))
            why = _limit(test, finite) if isinstance(test, SlowLimit) else _ratio(test, finite, baseline)
            if why:
                found.append(TooCoarse(test.gate, f"{test.gate}: {why}"))
    return tuple(found)


def _limit(test: SlowLimit, finite: Sequence[float]) -> str:
    """A limit must be a bound, or what lies between counts as slow for one test and as quick for the other."""
    if any(abs(bound - test.limit_ms) <= _SAME * test.limit_ms for bound in finite):
        return ""
    at = bisect_left(finite, test.limit_ms)
    nearest = [_written(bound) for bound in finite[max(0, at - 1) : at + 1]]
    if not nearest:
        return "there is no histogram to judge it by; check that Prometheus scrapes the router"
    return f"at_most: {_written(test.limit_ms)} is no bound of the histogram; write {' or '.join(nearest)}"


def _ratio(test: SlowRatio, finite: Sequence[float], baseline: Baseline | None) -> str:
    if len(finite) < 2:
        return "there is no histogram to judge it by; check that Prometheus scrapes the router"
    seen = (baseline.ttft if test.measure == "ttft" else baseline.duration) if baseline else ()
    at_ms = percentile_bound(seen, 1 - test.tail)
    if seen and at_ms >= finite[-1]:
        return f"the source's percentile is beyond the last bound, {_written(finite[-1])}; leave no_worse_than_source out"
    if seen:
        upper = finite[bisect_right(finite, at_ms * (1 + _SAME))]
        widest, near = upper / at_ms, at_ms
    else:
        widest, near = max(((high / low), low) for low, high in pairwise(finite) if low >= min(10.0, finite[-2]))
    if widest <= test.reject * (1 + _SAME):
        return ""
    least = ceil(100 * widest - _SAME) / 100
    return (
        f"no_worse_than_source: {test.reject:g}x is finer than the histogram, whose next bound after {_written(near)} is "
        f"{widest:.3g} times as long; write {least:g}x or more"
    )


def _written(bound_ms: float) -> str:
    return format_seconds(bound_ms / 1000)
