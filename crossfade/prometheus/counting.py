"""Counted steps of the router's series to intervals of evidence per arm."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from crossfade.judge.evidence import Counts, Histogram, Interval
from crossfade.prometheus.increase import Series, Step
from crossfade.prometheus.queries import BUCKETS, ENGINE, REQUESTS, Arm, arm_of, fate

INTERVAL_S = 15.0


@dataclass
class _Tally:
    """Counts of one arm in one interval while they are being added up."""

    requests: float = 0
    errors: float = 0
    histograms: dict[str, dict[float, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))

    def counts(self) -> Counts:
        return Counts(
            requests=round(self.requests),
            errors=round(self.errors),
            ttft=_histogram(self.histograms[BUCKETS["ttft"]]),
            duration=_histogram(self.histograms[BUCKETS["duration"]]),
        )


def into_intervals(counted: Iterable[tuple[Series, Iterable[Step]]], *, since_s: float, until_s: float) -> list[Interval]:
    """Intervals of `INTERVAL_S` seconds from `since_s`, the last one ending at `until_s`; together they hold every step once.

    Latency is of answers the arm's own engine gave. A request the other engine had to answer is an error instead.
    """
    edges = _edges(since_s, until_s)
    tallies: list[dict[Arm, _Tally]] = [{"source": _Tally(), "target": _Tally()} for _ in edges]
    for series, steps in counted:
        arm = arm_of(series.label("intended"))
        if arm == "none":
            continue
        for step in steps:
            index = min(int((step.at_s - since_s) / INTERVAL_S - 1e-9), len(edges) - 1)
            _add(tallies[index][arm], arm, series, step)
    return [
        Interval(start_s=start, end_s=end, source=tally["source"].counts(), target=tally["target"].counts())
        for (start, end), tally in zip(edges, tallies, strict=True)
    ]


def _edges(since_s: float, until_s: float) -> list[tuple[float, float]]:
    whole = max(1, math.ceil((until_s - since_s) / INTERVAL_S - 1e-9))
    starts = [since_s + INTERVAL_S * index for index in range(whole)]
    return list(zip(starts, [*starts[1:], until_s], strict=True))


def _add(tally: _Tally, arm: Arm, series: Series, step: Step) -> None:
    if series.name == REQUESTS:
        became = fate(arm, series.label("engine"), series.label("code"), series.label("flags"))
        if became != "left_out":
            count = sum(step.counted.values())
            tally.requests += count
            tally.errors += count if became == "failed" else 0
    elif series.label("engine") == ENGINE[arm]:
        for bound, count in step.counted.items():
            tally.histograms[series.name][bound] += count


def _histogram(counts: dict[float, float]) -> Histogram:
    """All bounds or none: cumulative counts can only be added up over the same bounds."""
    rising = tuple((bound, round(count)) for bound, count in sorted(counts.items()))
    return rising if rising and rising[-1][1] else ()
