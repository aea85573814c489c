"""Counted steps of the router's series to counts per arm, and those to intervals of evidence."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from crossfade.judge.evidence import Counts, Histogram, Interval
from crossfade.prometheus.increase import Series, Step
from crossfade.prometheus.queries import BUCKETS, ENGINE, REQUESTS, SHADOW_BUCKETS, SHADOW_REQUESTS, Arm, arm_of, fate

INTERVAL_S = 15.0


@dataclass
class _Tally:
    """Counts of one arm while they are being added up."""

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


@dataclass
class Tallies:
    """Counts of one interval while they are being added up. Series of anything else than requests add nothing."""

    source: _Tally = field(default_factory=_Tally)
    target: _Tally = field(default_factory=_Tally)
    shadow: _Tally = field(default_factory=_Tally)

    def add(self, series: Series, step: Step) -> None:
        """Count one step of one series.

        Latency is of answers the arm's own engine gave. A request the other engine had to answer is an error instead.
        """
        arm = arm_of(series.label("intended"))
        if series.name in (SHADOW_REQUESTS, SHADOW_BUCKETS):
            _add_shadow(self.shadow, series, step)
        elif arm != "none":
            _add(self.source if arm == "source" else self.target, arm, series, step)

    def merged(self, other: Tallies) -> Tallies:
        """Both together. What either of them counted before may be counted on in place."""
        if not self.touched:
            return other
        self._merge(other)
        return self

    @property
    def touched(self) -> bool:
        """Whether anything was added yet."""
        return any(one.requests or one.histograms for one in (self.source, self.target, self.shadow))

    def _merge(self, other: Tallies) -> None:
        """Take over what the next piece of time counted."""
        for mine, theirs in ((self.source, other.source), (self.target, other.target), (self.shadow, other.shadow)):
            mine.requests += theirs.requests
            mine.errors += theirs.errors
            for name, histogram in theirs.histograms.items():
                for bound, count in histogram.items():
                    mine.histograms[name][bound] += count

    def interval(self, start_s: float, end_s: float) -> Interval:
        """The evidence of the time between two sample times."""
        source, target, shadow = self.source.counts(), self.target.counts(), self.shadow.counts()
        return Interval(start_s=start_s, end_s=end_s, source=source, target=target, shadow=shadow)


def into_intervals(counted: Iterable[tuple[Series, Iterable[Step]]], *, since_s: float, until_s: float) -> list[Interval]:
    """Intervals of `INTERVAL_S` seconds from `since_s`, the last one ending at `until_s`; together they hold every step once."""
    edges = _edges(since_s, until_s)
    tallies = [Tallies() for _ in edges]
    for series, steps in counted:
        for step in steps:
            tallies[min(int((step.at_s - since_s) / INTERVAL_S - 1e-9), len(edges) - 1)].add(series, step)
    return [tally.interval(start, end) for (start, end), tally in zip(edges, tallies, strict=True)]


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
        histogram = tally.histograms[series.name]
        for bound, count in step.counted.items():
            histogram[bound] += count


def _add_shadow(tally: _Tally, series: Series, step: Step) -> None:
    """A mirrored request that found no target is a 5xx too. When its first token came, nobody measured."""
    if series.name == SHADOW_REQUESTS:
        count = sum(step.counted.values())
        tally.requests += count
        tally.errors += count if series.label("envoy_response_code_class") == "5" else 0
    else:
        for bound, count in step.counted.items():
            tally.histograms[BUCKETS["duration"]][bound] += count


def _histogram(counts: dict[float, float]) -> Histogram:
    """All bounds or none: cumulative counts can only be added up over the same bounds."""
    rising = [(bound, round(count)) for bound, count in sorted(counts.items())]
    return tuple(rising) if rising and rising[-1][1] else ()
