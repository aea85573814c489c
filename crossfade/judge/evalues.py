"""Log likelihood ratios whose exponential has expectation at most 1 when the target is as good as it must be: e-values.

Multiplied up over time they may be looked at after every interval: the chance that the product ever reaches 1/alpha is at most alpha
(Ville's inequality). All are logarithms to base e. Counts may be fractions, since over-dispersed ones are divided by a design effect.

| | null hypothesis | source |
|---|---|---|
| `one_sample` | rate <= p0 (for p1 > p0), rate >= p0 (for p1 < p0) | Wald's likelihood ratio |
| `rate_ratio` | rate <= r0 times the source's (r1 > r0), or >= (r1 < r0) | Lindon and Malek 2022, for counts given their sum |
| `two_sample` | rate <= the source's (odds > 1), or >= (odds < 1) | Turner, Ly and Grünwald 2024 |

Only ratios of the two engines enter the latter two, so that a daily rhythm or an outage both engines share cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, log

NEVER = -1e9
"""Logarithm of nothing; finite, because plain JSON knows no infinity."""

UP = (1.25, 1.6, 2.5, 5.0, 12.0)
"""Alternatives mixed against a target: so many times the limit, or so many times the odds."""
DOWN = (0.8, 0.6, 0.4, 0.2, 0.05)
"""Alternatives mixed in its favour."""
PLAINLY = (0.5, 0.75, 0.95)
"""Error shares of the fast path."""
OVER_FLOOR = (2.0, 5.0, 20.0, 100.0)
"""Alternatives against an error share below which nothing is a relative regression."""


def one_sample(bad: float, total: float, p0: float, p1: float) -> float:
    """`bad` of `total`: a rate of `p1` against one of `p0`."""
    return bad * log(p1 / p0) + (total - bad) * log((1 - p1) / (1 - p0))


def one_sample_each(bad: float, total: float, p0: float, alternatives: tuple[float, ...]) -> list[float]:
    """`one_sample` for several rates against the same one."""
    well = total - bad
    return [bad * if_bad + well * if_well for if_bad, if_well in _gains(p0, alternatives)]


@lru_cache(maxsize=1024)
def _gains(p0: float, alternatives: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """What one bad and one good request are worth for each alternative."""
    return tuple((log(p1 / p0), log((1 - p1) / (1 - p0))) for p1 in alternatives)


def rate_ratio(bad: float, total: float, source_bad: float, source_total: float, r0: float, r1: float) -> float:  # noqa: PLR0917
    """A rate `r1` times the source's against one `r0` times. 0 unless both engines were asked."""
    if total <= 0 or source_total <= 0:
        return 0.0
    return bad * log(r1 / r0) + (bad + source_bad) * log((r0 * total + source_total) / (r1 * total + source_total))


def two_sample(bad: float, total: float, source_bad: float, source_total: float, source_rate: float, odds: float) -> float:  # noqa: PLR0917
    """Odds `odds` times the source's against equal ones. 0 unless both engines were asked.

    `source_rate` must come from the past; a wrong one costs power and never validity.
    """
    return two_sample_each(bad, total, source_bad, source_total, source_rate, (odds,))[0]


def two_sample_each(  # noqa: PLR0917
    bad: float, total: float, source_bad: float, source_total: float, source_rate: float, alternatives: tuple[float, ...]
) -> list[float]:
    """`two_sample` for several odds at once: the judge asks for a hundred of them in every interval."""
    if total <= 0 or source_total <= 0:
        return [0.0] * len(alternatives)
    well, source_well, rest, found = total - bad, source_total - source_bad, 1 - source_rate, list[float]()
    theirs, every = source_total * source_rate, total + source_total
    for odds in alternatives:
        odd = odds * source_rate / rest
        ours = odd / (1 + odd)
        both = (total * ours + theirs) / every
        other = 1 - both
        found.append(
            bad * log(ours / both) + well * log((1 - ours) / other) + source_bad * log(source_rate / both) + source_well * log(rest / other)
        )
    return found


def log_add(left: float, right: float) -> float:
    """log(e^left + e^right)."""
    most, least = (left, right) if left >= right else (right, left)
    return most + log(1.0 + exp(least - most))


def restarted(before: Sequence[float], start: float, gains: Sequence[float]) -> tuple[float, ...]:
    """`log_add(old, start) + gain` of each: processes that may also begin now, after this interval; written out, being asked so often."""
    after = [
        (old + log(1.0 + exp(start - old)) if old >= start else start + log(1.0 + exp(old - start))) + gain
        for old, gain in zip(before, gains, strict=True)
    ]
    return tuple(after)


def log_sum(values: Sequence[float]) -> float:
    """log of the sum of e^value."""
    most = max(values)
    return most + log(sum([exp(value - most) for value in values]))


def log_mean(values: Sequence[float]) -> float:
    """log of the mean of e^value: a mixture of alternatives with equal weights."""
    most = max(values)
    return most + log(sum([exp(value - most) for value in values])) - log(len(values))


@lru_cache(maxsize=256)
def below(p0: float, times: tuple[float, ...]) -> tuple[float, ...]:
    """Rates `times` p0."""
    return tuple(p0 * one for one in times)


@lru_cache(maxsize=256)
def above(p0: float, times: tuple[float, ...], highest: float) -> tuple[float, ...]:
    """Rates `times` p0, none over `highest`. Where p0 itself is that high: half-way from p0 to 1."""
    return tuple(rate if rate > p0 else (1 + p0) / 2 for rate in (min(p0 * one, highest) for one in times))
