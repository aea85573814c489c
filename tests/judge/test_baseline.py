"""What the source's own traffic teaches: how far its requests are from coin tosses, and what is assumed where too little was seen."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from judge_stand import histogram

from crossfade.judge.baseline import ENOUGH_S, Baseline, clustering_of, learn_baseline
from crossfade.judge.evidence import Counts, Interval
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate
from crossfade.plan.model import JudgePlan

GATES: dict[str, Gate] = {
    "error_rate": ErrorRateGate.model_construct(at_most=0.01),
    "ttft_p95": LatencyGate.model_construct(no_worse_than_source=1.3),
}
BLOCKS = (1, 4, 20)


def observed(seconds: float, *, requests: int = 100, errors: int = 1, interval_s: float = 15.0, asked_s: float = 7200.0) -> Baseline:
    answered = Counts(requests=requests, errors=errors, ttft=histogram(fast=requests - errors - 6, at_400=6))
    count = int(seconds / interval_s)
    seen = [Interval(start_s=interval_s * at, end_s=interval_s * at + interval_s, source=answered) for at in range(count)]
    return learn_baseline(seen, asked_s=asked_s, gates=GATES, judge=JudgePlan())


def counted(rate: Callable[[int, random.Random], float], *, seed: int) -> list[tuple[float, float]]:
    """Two hours of 60 requests an interval, of which a share is bad that may change from one interval to the next."""
    draw, found = random.Random(seed), []  # noqa: S311
    for at in range(480):
        share = rate(at, draw)
        found.append((float(sum(draw.random() < share for _ in range(60))), 60.0))
    return found


def test_two_hours_are_taken_as_they_are() -> None:
    found = observed(ENOUGH_S)
    assert (found.requests, found.errors, found.seconds, found.widened) == (48_000, 480, 7200.0, "")
    assert found.requests_per_s == pytest.approx(100 / 15)
    assert found.error_share == 0.01
    assert found.rho == {"error_rate": 0.0, "ttft_p95": 0.0}


def test_a_baseline_shorter_than_asked_says_so_and_widens_by_what_is_missing() -> None:
    short, shorter = observed(3600), observed(60)
    assert short.widened.startswith("only 1h of the source were observed of the 2h the plan asks; two hours show")
    assert 0 < short.rho["error_rate"] < shorter.rho["error_rate"]
    assert short.clustering("error_rate", 15.0)(1000) > 1
    assert observed(3600, asked_s=3600).widened.startswith("only 1h of the source were observed; two hours show")


def test_a_source_nobody_asked_says_that_comparisons_wait_for_its_traffic() -> None:
    found = observed(ENOUGH_S, requests=0, errors=0).model_copy(update={"ttft": ()})
    assert "had no traffic" in found.widened
    assert found.requests_per_s == 0


def test_requests_that_are_independent_count_nearly_in_full() -> None:
    found = [clustering_of(counted(lambda _at, _draw: 0.05, seed=seed), BLOCKS) for seed in range(10)]
    assert sum(found) / len(found) < 0.004


def test_errors_that_come_together_are_found() -> None:
    """A beta of mean 5 % and intra-cluster correlation 0.05 for the share of each interval."""
    total = 1 / 0.05 - 1
    found = [
        clustering_of(counted(lambda _at, draw: draw.betavariate(0.05 * total, 0.95 * total), seed=seed), BLOCKS) for seed in range(10)
    ]
    assert 0.03 < sum(found) / len(found) < 0.15


def test_a_slow_drift_shows_in_long_blocks_and_not_in_single_intervals() -> None:
    """Ten minutes of 7 % after ten of 3 %."""
    drifting = counted(lambda at, _draw: 0.07 if at // 40 % 2 else 0.03, seed=3)
    assert clustering_of(drifting, BLOCKS) > 3 * clustering_of(drifting, (1,))


def test_clustering_weighs_alike_however_long_intervals_are() -> None:
    """Four times the requests in four times the time lie in as many clusters of the length that was learned."""
    learned = Baseline(rho={"error_rate": 0.01}, interval_s=15.0)
    assert learned.clustering("error_rate", 60.0)(400) == pytest.approx(learned.clustering("error_rate", 15.0)(100))
    assert learned.clustering("error_rate", 15.0)(0.5) == 1
    assert learned.clustering("another", 15.0)(100) == 1
