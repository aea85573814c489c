"""What the source does alone: its latencies, its errors, and how far its requests are from independent of each other.

Errors come in bursts and latencies drift. Both make counts less informative than as many coin tosses, by the design effect
D = 1 + (n - 1) rho for n requests of an interval. rho is the largest over blocks of an interval, one minute and five, so that slow drift
shows as well, and it wants two hours of history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Self

from pydantic import BaseModel, ConfigDict

from crossfade.judge.evidence import Counts, Histogram, Interval, add_up, thinned
from crossfade.judge.histogram import slower_than, total
from crossfade.judge.latencies import percentile_bound
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate, latency_name
from crossfade.plan.model import JudgePlan
from crossfade.plan.units import format_seconds

BLOCKS_S = (60.0, 300.0)
"""Seconds a block, beside single intervals; longer drifts than the longest block are not seen, and cost time to see."""

_BLOCKS_AT_LEAST = 8
"""Fewer blocks of a length say nothing about clustering: their spread is chance."""

ENOUGH_S = 7200.0
"""Two hours show drifts with a memory of five minutes (simulated: with them 2 % instead of 30 % of good ramps are rolled back)."""

_ASSUMED_RHO = 0.002
"""Clustering assumed per missing share of the history: half as much again as the simulation's worst good source needs."""


class Baseline(BaseModel):
    """The source in the observing phase. Latencies are cumulative counts by bound in milliseconds; `rho` is by gate.

    `widened` says, for a person, why the judge assumes more clustering than it saw; empty when it does not.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    asked_s: float = 0.0
    ttft: Histogram = ()
    duration: Histogram = ()
    interval_s: float = 15.0  # of the intervals it was learned from
    rho: dict[str, float] = {}
    widened: str = ""

    @classmethod
    def none(cls) -> Self:
        """Nothing was observed: requests are taken as independent, and comparisons wait for the source's own traffic."""
        return cls()

    @property
    def requests_per_s(self) -> float:
        """Measured traffic."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def error_share(self) -> float:
        """Share of the source's requests that failed."""
        return self.errors / self.requests if self.requests else 0.0

    def clustering(self, gate: str, length_s: float) -> Callable[[float], float]:
        """The design effect of so many requests in an interval of `length_s`; at least 1."""
        rho, part = self.rho.get(gate, 0.0), self.interval_s / length_s if length_s > 0 else 1.0
        return lambda requests: 1 + max(requests * part - 1, 0.0) * rho


def learn_baseline(intervals: Sequence[Interval], *, asked_s: float, gates: Mapping[str, Gate], judge: JudgePlan) -> Baseline:
    """The baseline of these intervals of the source alone. One that is shorter than two hours is widened, and says so."""
    everything = add_up(interval.source for interval in intervals)
    interval_s = median([interval.end_s - interval.start_s for interval in intervals] or [judge.interval])
    blocks = tuple(dict.fromkeys((1, *(max(1, round(block_s / interval_s)) for block_s in BLOCKS_S))))
    seconds = sum(interval.end_s - interval.start_s for interval in intervals)
    missing = max(0.0, 1 - seconds / ENOUGH_S)
    wide = _ASSUMED_RHO * missing if everything.requests else 0.0
    rho = {}
    for name, gate in gates.items():
        counted = _counted(name, gate, intervals, everything)
        if counted:
            rho[name] = max(wide, clustering_of(counted, blocks))
    return Baseline(
        requests=everything.requests,
        errors=everything.errors,
        seconds=seconds,
        asked_s=asked_s,
        ttft=thinned(everything.ttft),
        duration=thinned(everything.duration),
        interval_s=interval_s,
        rho=rho,
        widened=_widened(seconds, asked_s, everything.requests),
    )


def clustering_of(counted: Sequence[tuple[float, float]], blocks: Sequence[int]) -> float:
    """Intra-cluster correlation of (bad, all) by interval, largest over `blocks`, lengths in intervals; 0 when all or none are bad."""
    bad, every = sum(one[0] for one in counted), sum(one[1] for one in counted)
    if not 0 < bad < every:
        return 0.0
    rate, largest = bad / every, 0.0
    for length in blocks:
        cut = [counted[at : at + length] for at in range(0, len(counted) - length + 1, length)]
        sums = [(sum(b for b, _ in block), sum(n for _, n in block)) for block in cut]
        used = [(b, n) for b, n in sums if n > 1]
        spread = sum((b - n * rate) ** 2 / (n * rate * (1 - rate)) for b, n in used)
        room = sum(n - 1 for _, n in used)
        if len(used) >= _BLOCKS_AT_LEAST and room > 0:
            largest = max(largest, length * (spread - len(used)) / room)
    return min(1.0, largest)


def _counted(name: str, gate: Gate, intervals: Sequence[Interval], everything: Counts) -> list[tuple[float, float]]:
    if isinstance(gate, ErrorRateGate):
        return [(interval.source.errors, interval.source.requests) for interval in intervals]
    if isinstance(gate, LatencyGate):
        measure, q = latency_name(name)
        seen = everything.histogram(measure)
        bound_ms = percentile_bound(seen, q)
        found = [interval.source.histogram(measure) for interval in intervals]
        return [(slower_than(one, bound_ms).at_least, total(one)) for one in found]
    return []


def _widened(seconds: float, asked_s: float, requests: int) -> str:
    if not requests:
        return "the source had no traffic while it was observed: comparisons begin with what it does during the ramp"
    if seconds < ENOUGH_S:
        short = f"only {format_seconds(round(seconds))} of the source were observed"
        asked = f" of the {format_seconds(round(asked_s))} the plan asks" if asked_s > seconds + 60 else ""
        return f"{short}{asked}; two hours show how its requests cluster and drift, so some clustering is assumed and steps take longer"
    return ""
