"""Kayenta's question of one metric: are the canary's points higher than the baseline's, by Mann-Whitney's test?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

CONFIDENCE = 0.98
OUTSIDE = 3.0
"""Interquartile ranges beyond the quartiles at which a point is left out."""


def without_outliers(points: Sequence[float]) -> list[float]:
    """Points that are numbers and not far off; fewer than four tell nothing about what is far."""
    known = [point for point in points if not math.isnan(point)]
    if len(known) < 4:
        return known
    low, high = np.percentile(known, [25, 75])
    reach = OUTSIDE * (high - low)
    return [point for point in known if low - reach <= point <= high + reach]


def is_surely_higher(canary: Sequence[float], baseline: Sequence[float]) -> bool:
    """Whether the confidence interval of the shift lies above a quarter of the estimated shift itself.

    That quarter is of the shift, not of the baseline: any shift that can be told from none counts as high, however small it is.
    """
    shifts = np.sort(np.subtract.outer(np.array(canary), np.array(baseline)).ravel())
    rank = max(_lower_rank(len(canary), len(baseline)), 1)
    low, estimate = float(shifts[rank - 1]), float(np.median(shifts))
    return low > 0 and low > 0.25 * estimate


@cache
def _lower_rank(canary: int, baseline: int) -> int:
    """Smallest u with P(U <= u) >= (1 - confidence) / 2 when both are alike: the rank of the interval's lower end among all shifts."""
    ways = _ways(canary, baseline)
    likely = np.cumsum(ways) / math.comb(canary + baseline, canary)
    return int(np.searchsorted(likely, (1 - CONFIDENCE) / 2 - 1e-12))


@cache
def _ways(canary: int, baseline: int) -> tuple[int, ...]:
    """In how many orders of both samples each value of U comes about: the last of all is either a canary's point, above all
    of the baseline's, or one of the baseline's."""
    if not canary or not baseline:
        return (1,)
    total = [0] * (canary * baseline + 1)
    for value, count in enumerate(_ways(canary - 1, baseline)):
        total[value + baseline] += count
    for value, count in enumerate(_ways(canary, baseline - 1)):
        total[value] += count
    return tuple(total)
