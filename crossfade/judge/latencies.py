"""Latency questions reduced to counting: how many of so many requests were slower than a bound of the histogram.

A limit seldom is a bound. Against the target only requests over the next higher bound count, for it only those within the next lower
one are good, so that coarse histograms cost power and never truth (2.5 of the statistics' source).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from math import exp, inf, isinf, isnan, nan
from typing import NamedTuple

from crossfade.judge.evidence import Counts, Histogram
from crossfade.judge.histogram import slower_than, total
from crossfade.judge.tests_of import Measure, SlowLimit, SlowRatio

Remembered = tuple[tuple[float, float], ...]
"""Decayed cumulative counts by upper bound in milliseconds."""

_NO_MORE = (nan, 0)
"""After the last bound; equal to none."""

_CLIP = (1e-3, 0.999)
_SAME = 1e-9


class Pair(NamedTuple):
    """Both engines in one interval, and the mirrored requests that may speak for the target."""

    target: Counts
    source: Counts
    shadow: Counts


class Slow(NamedTuple):
    """Slow requests of both engines. `bad` of `total` are surely slow; `kept_bad` of `kept_total` may be, mirrored ones included."""

    bad: float
    total: float
    source_bad: float
    source_total: float
    source_rate: float
    kept_bad: float
    kept_total: float

    def divided(self, clustering: Callable[[float], float]) -> Slow:
        """The same evidence of requests that come in clusters and therefore count less."""
        ours, theirs, kept = clustering(self.total), clustering(self.source_total), clustering(self.kept_total)
        return Slow(
            self.bad / ours,
            self.total / ours,
            self.source_bad / theirs,
            self.source_total / theirs,
            self.source_rate,
            self.kept_bad / kept,
            self.kept_total / kept,
        )


def over_limit(test: SlowLimit, pair: Pair, known: Remembered) -> Slow:
    """Requests slower than the limit; the source's rate comes from what was known before."""
    ours, theirs = slower_than(_of(pair.target, test.measure), test.limit_ms), slower_than(_of(pair.source, test.measure), test.limit_ms)
    mirrored = slower_than(_of(pair.shadow, test.measure), test.limit_ms)
    return Slow(
        bad=ours.at_least,
        total=ours.total,
        source_bad=theirs.at_least,
        source_total=theirs.total,
        source_rate=_rate_over(known, test.limit_ms),
        kept_bad=ours.at_most + mirrored.at_most,
        kept_total=ours.total + mirrored.total,
    )


def over_ratio(test: SlowRatio, pair: Pair, known: Remembered, next_share: float) -> Slow:
    """Requests of the source beyond its own percentile, and of the target beyond so many times that.

    Which bound the percentile is comes from earlier data, which keeps the test valid. No evidence while nothing is known, or when the
    percentile lies beyond the last bound.
    """
    bound_ms = percentile_bound(known, 1 - test.tail)
    if isinf(bound_ms):
        return Slow(0, 0, 0, 0, 0.5, 0, 0)
    ours, theirs, mirrored = (_of(counts, test.measure) for counts in (pair.target, pair.source, pair.shadow))
    tolerated_ms = test.tolerate * bound_ms * (1 - _SAME)
    rejected_ms = (1 + (test.reject - 1) / next_share) * bound_ms * (1 + _SAME)
    return Slow(
        bad=slower_than(ours, tolerated_ms).at_least,
        total=total(ours),
        source_bad=slower_than(theirs, bound_ms).at_least,
        source_total=total(theirs),
        source_rate=_rate_over(known, bound_ms),
        kept_bad=slower_than(ours, rejected_ms).at_most + slower_than(mirrored, rejected_ms).at_most,
        kept_total=total(ours) + total(mirrored),
    )


def percentile_bound(known: Remembered, q: float) -> float:
    """The first bound within which `q` of the requests were; infinite without any."""
    seen = known[-1][1] if known else 0.0
    if not seen:
        return inf
    return known[bisect_left(known, True, key=lambda one: one[1] / seen >= q - 1e-12)][0]


def decayed(known: Remembered, new: Histogram, lifetimes: float) -> Remembered:
    """What is remembered after an interval of so many lifetimes of the memory."""
    factor, found = exp(-lifetimes), list[tuple[float, float]]()
    following, so_far, before, new_before = iter(new), 0.0, 0.0, 0.0
    next_bound, next_count = next(following, _NO_MORE)
    for bound, count in known:
        inside = factor * (count - before)
        before = count
        if bound == next_bound:
            inside += next_count - new_before
            new_before = next_count
            next_bound, next_count = next(following, _NO_MORE)
        so_far += inside
        found.append((bound, so_far))
    return tuple(found) if isnan(next_bound) else _decayed_anyhow(known, new, factor)


def _decayed_anyhow(known: Remembered, new: Histogram, factor: float) -> Remembered:
    """The same where `new` has bounds that were not known; slower, and seldom so after the first intervals."""
    counts = [count for _, count in known]
    inside = {bound: factor * (count - before) for (bound, count), before in zip(known, [0.0, *counts], strict=False)}
    before = 0.0
    for bound, count in new:
        inside[bound] = inside.get(bound, 0.0) + (count - before)
        before = count
    inside = dict(sorted(inside.items()))
    return tuple(zip(inside, accumulate(inside.values()), strict=True))


def _rate_over(known: Remembered, bound_ms: float) -> float:
    seen = known[-1][1] if known else 0.0
    upper = bisect_left(known, (bound_ms * (1 - _SAME), -1.0))
    within = known[upper][1] if upper < len(known) else seen
    lowest, highest = _CLIP
    return min(max((seen - within) / seen if seen else 0.0, lowest), highest)


def _of(counts: Counts, measure: Measure) -> Histogram:
    return counts.ttft if measure == "ttft" else counts.duration
