"""Proportions with their uncertainty, so that no parity number is a bare number. All intervals are two-sided 95 %."""

from __future__ import annotations

import math
from typing import Self

from pydantic import BaseModel, ConfigDict

Z_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


class Proportion(BaseModel):
    """`count` of `n`, its rate, and the Wilson interval `low`..`high` around it. Without data the rate is 0 and the interval 0..1."""

    model_config = ConfigDict(frozen=True)

    count: int
    n: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, n: int) -> Self:
        """The proportion `count / n` with its interval."""
        low, high = wilson(count, n)
        return cls(count=count, n=n, rate=count / n if n else 0.0, low=low, high=high)

    def __str__(self) -> str:
        return f"{self.count} of {self.n} = {percent(self.rate)} (95% interval {percent(self.low)} to {percent(self.high)})"


class Loss(BaseModel):
    """How much smaller the target's correct rate is than the source's on the same cases, with its interval.

    Negative where the target is better.
    """

    model_config = ConfigDict(frozen=True)

    lost: int
    gained: int
    n: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, lost: int, gained: int, n: int) -> Self:
        """The loss when `lost` cases are right only on the source and `gained` only on the target."""
        low, high = paired_difference(lost, gained, n)
        return cls(lost=lost, gained=gained, n=n, rate=(lost - gained) / n if n else 0.0, low=low, high=high)

    def __str__(self) -> str:
        return (
            f"{self.lost} lost and {self.gained} gained of {self.n} = {percent(self.rate)} "
            f"(95% interval {percent(self.low)} to {percent(self.high)})"
        )


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion: `(p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`.

    E. B. Wilson, Probable inference, JASA 22 (1927) 209-212. It stays inside 0..1 and is honest at 0 and at n, where
    the textbook interval has no width.
    """
    if n == 0:
        return 0.0, 1.0
    rate, z2 = count / n, Z_95**2
    centre = rate + z2 / (2 * n)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if count == 0 else low), (1.0 if count == n else high)


def paired_difference(lost: int, gained: int, n: int) -> tuple[float, float]:
    """Interval of the difference of two proportions measured on the same `n` cases.

    Wald's interval after adding 1/2 to each of the four cells of the table (right or wrong on either side):
    A. Agresti and Y. Min, Simple improved confidence intervals for comparing matched proportions, Statistics in Medicine
    24 (2005) 729-740. The cases are the same on both sides, so an interval for independent samples would be too wide.
    """
    if n == 0:
        return -1.0, 1.0
    cases = n + 2
    difference = (lost - gained) / cases
    half = Z_95 * math.sqrt(lost + gained + 1 - (lost - gained) ** 2 / cases) / cases
    return max(-1.0, difference - half), min(1.0, difference + half)


def percent(rate: float) -> str:
    """`0.98765` as `98.77%`: two places, because the bounds people write are whole or half per cents."""
    return f"{round(rate * 100, 2) + 0.0:.2f}".rstrip("0").rstrip(".") + "%"
