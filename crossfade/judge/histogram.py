"""What cumulative histograms can say for certain, and what they can only estimate.

Counts are known at the bounds alone. Where a limit lies between two bounds, the requests in that bucket may be on either side:
a rollback counts only those that are surely over it, a promotion counts all that may be.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from crossfade.judge.evidence import Histogram


class Slower(NamedTuple):
    """How many of `total` requests took longer than a limit: at least `at_least`, at most `at_most`."""

    total: int
    at_least: int
    at_most: int

    @property
    def surely(self) -> tuple[int, int]:
        """Total, and those surely slower."""
        return self.total, self.at_least


_NOTHING = Slower(0, 0, 0)


@dataclass(frozen=True)
class Quantile:
    """A quantile in milliseconds: within `low`..`high`, which are bucket bounds, and estimated by interpolation."""

    low_ms: float
    estimate_ms: float
    high_ms: float


def total(histogram: Histogram) -> int:
    """Requests the histogram has seen."""
    return histogram[-1][1] if histogram else 0


def slower_than(histogram: Histogram, limit_ms: float) -> Slower:
    """Requests over `limit_ms`; `at_least` equals `at_most` when the limit is one of the bounds."""
    if not histogram:
        return _NOTHING
    seen, below = histogram[-1][1], 0
    after = bisect_right(histogram, (limit_ms, math.inf))
    if after:
        bound_ms, below = histogram[after - 1]
        if bound_ms == limit_ms:
            return Slower(seen, seen - below, seen - below)
    within = histogram[after][1] if after < len(histogram) else seen
    return Slower(seen, seen - within, seen - below)


def quantile(histogram: Histogram, q: float) -> Quantile:
    """The `q` quantile (0..1), interpolated within its bucket; infinite beyond the last finite bound, NaN without requests."""
    seen = total(histogram)
    if not seen:
        return Quantile(math.nan, math.nan, math.nan)
    rank, lower_ms, below = q * seen, 0.0, 0
    for bound_ms, count in histogram:
        if count >= rank and count > below:
            share = (rank - below) / (count - below)
            inside_ms = math.inf if math.isinf(bound_ms) else lower_ms + max(0.0, share) * (bound_ms - lower_ms)
            return Quantile(lower_ms, inside_ms, bound_ms)
        lower_ms, below = bound_ms, count
    return Quantile(lower_ms, math.inf, math.inf)
