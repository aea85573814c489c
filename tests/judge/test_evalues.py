"""The e-values: figures worked out elsewhere, expectation at most 1, and how rarely they cross 1/alpha when nothing is wrong."""

from __future__ import annotations

import math
import random
from math import comb, exp

import pytest

from crossfade.judge.evalues import DOWN, UP, log_add, log_mean, one_sample, one_sample_each, rate_ratio, restarted, two_sample


def test_the_published_figures() -> None:
    assert one_sample(3, 100, 0.01, 0.02) == pytest.approx(1.094662, abs=5e-7)
    assert rate_ratio(4, 100, 2, 300, 1.25, 2.0) == pytest.approx(0.904901, abs=5e-7)
    assert two_sample(12, 100, 30, 500, 0.05, 2.5) == pytest.approx(1.906065, abs=5e-7)
    assert two_sample(1, 100, 30, 500, 0.05, 0.4) == pytest.approx(2.399411, abs=5e-7)


def test_several_at_once_are_as_each_alone() -> None:
    rates = (0.02, 0.05, 0.9)
    assert one_sample_each(3.5, 100, 0.01, rates) == [one_sample(3.5, 100, 0.01, rate) for rate in rates]
    before, gains = (-7.0, -1e9, 3.0), (0.5, -2.0, 0.0)
    assert restarted(before, -2.0, gains) == tuple(log_add(old, -2.0) + gain for old, gain in zip(before, gains, strict=True))


def binomial(n: int, p: float) -> list[float]:
    return [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("p0", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("times", [*UP, *DOWN])
def test_one_sample_expects_at_most_one(n: int, p0: float, times: float) -> None:
    p1 = min(p0 * times, 0.95)
    for p in (p0, 0.5 * p0) if p1 > p0 else (p0, min(2 * p0, 0.9)):
        assert sum(chance * exp(one_sample(k, n, p0, p1)) for k, chance in enumerate(binomial(n, p))) <= 1 + 1e-9


@pytest.mark.parametrize(("n", "m"), [(1, 30), (10, 10), (25, 8)])
@pytest.mark.parametrize("source", [0.005, 0.05, 0.3])
@pytest.mark.parametrize("times", [*UP, *DOWN])
def test_two_engines_expect_at_most_one(n: int, m: int, source: float, times: float) -> None:
    theirs = binomial(m, source)
    for ratio in (1.0, 1.25, 2.0):
        for better in (1.0, 0.7 if times > 1 else 1.3):
            rate = ratio * source * better
            if rate > 1:
                continue
            table = [(k, j, a * b) for k, a in enumerate(binomial(n, rate)) for j, b in enumerate(theirs)]
            assert sum(p * exp(rate_ratio(k, n, j, m, ratio, ratio * times)) for k, j, p in table) <= 1 + 1e-9
            if ratio == 1.0:
                for plug_in in (0.02, 0.2):  # a wrong guess at the source's rate stays valid
                    assert sum(p * exp(two_sample(k, n, j, m, plug_in, times)) for k, j, p in table) <= 1 + 1e-9


@pytest.mark.parametrize("kind", ["one", "ratio", "two"])
def test_two_thousand_looks_cross_no_more_often_than_alpha(kind: str) -> None:
    """At the edge of the null, where it is hardest. 300 runs; three standard errors of tolerance."""
    draw, runs, looks, alpha, crossed = random.Random(11), 300, 2_000, 0.05, 0  # noqa: S311
    table = {}
    for k in range(4):
        for j in range(4):
            table[k, j] = [
                one_sample(k, 20, 0.02, 0.02 * g)
                if kind == "one"
                else rate_ratio(k, 20, j, 20, 1.0, g)
                if kind == "ratio"
                else two_sample(k, 20, j, 20, 0.03, g)
                for g in UP
            ]
    weights = binomial(20, 0.02)[:3]
    chances = [*weights, 1 - sum(weights)]  # 3 or more are counted as 3, in both engines alike: rarer than a thousandth
    for _ in range(runs):
        logs = [0.0] * len(UP)
        ours, theirs = (draw.choices(range(4), chances, k=looks) for _ in range(2))
        for k, j in zip(ours, theirs, strict=True):
            logs = [log + new for log, new in zip(logs, table[k, j], strict=True)]
            if max(logs) >= math.log(1 / alpha) and log_mean(logs) >= math.log(1 / alpha):
                crossed += 1
                break
    assert crossed / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
