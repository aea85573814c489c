"""Time to first token as shares of a histogram's buckets."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfade.envoy.names import BUCKETS_MS

Floats = NDArray[np.floating[Any]]

BOUNDS_MS: dict[str, tuple[float, ...]] = {
    "router": tuple(float(bound) for bound in BUCKETS_MS),
    # vLLM's own histogram of time to first token; finite bounds as of vLLM 0.10, in milliseconds
    "vllm": (1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000, 20000, 40000, 80000, 160000, 640000, 2560000),
}

_Z95 = 1.6448536269514722
_GRID = 200
"""Factors are rounded to half a percent, so that the shares of each are computed once."""


class Latency:
    """A lognormal time to first token with this p95, optionally with a share of requests that are slower."""

    def __init__(self, p95_ms: float, sigma: float, bounds: str, *, tail_share: float = 0.0, tail_x: float = 1.0) -> None:
        self._log_median = math.log(p95_ms) - _Z95 * sigma
        self._sigma, self._bounds, self._tail_share, self._tail_x = sigma, bounds, tail_share, tail_x

    def shares(self, factors: Floats) -> Floats:
        """One row per factor: each bucket's share of the requests when all take that many times as long. The last is over all bounds."""
        indices = np.rint(np.log(factors) * _GRID).astype(int).tolist()
        return np.stack([self._row(index) for index in indices])

    def _row(self, index: int) -> Floats:
        row = _row(self._log_median, self._sigma, self._bounds, index)
        if not self._tail_share:
            return row
        slower = _row(self._log_median, self._sigma, self._bounds, index + round(math.log(self._tail_x) * _GRID))
        return (1 - self._tail_share) * row + self._tail_share * slower


@cache
def _row(log_median: float, sigma: float, bounds: str, index: int) -> Floats:
    middle = log_median + index / _GRID
    below = [0.5 * (1 + math.erf((math.log(bound) - middle) / (sigma * math.sqrt(2)))) for bound in BOUNDS_MS[bounds]]
    return np.diff(np.array([0.0, *below, 1.0]))
