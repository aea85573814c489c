from __future__ import annotations

import math

import pytest

from crossfade.judge.breach import Breach, NoBreach, hard_breach
from crossfade.judge.evidence import Counts, Interval
from crossfade.plan.model import GuardPlan

GUARD = GuardPlan.model_validate(
    {"window": "10s", "errors_at_least": 5, "error_share_above": "20%", "slow_after": "1s", "slow_share_above": "50%"}
)


def window(target: Counts, *more: Counts) -> list[Interval]:
    return [Interval(start_s=10.0 * i, end_s=10.0 * i + 10, target=one) for i, one in enumerate((target, *more))]


def timed(fast: int, slow: int) -> Counts:
    return Counts(requests=fast + slow, ttft=((500.0, fast), (1000.0, fast), (math.inf, fast + slow)))


@pytest.mark.parametrize(
    ("requests", "errors", "breaches"),
    [(24, 5, True), (25, 5, False), (5, 5, True), (4, 4, False), (1000, 200, False), (1000, 201, True), (0, 0, False)],
)
def test_errors_breach_by_number_and_by_share(requests: int, errors: int, breaches: bool) -> None:
    assert isinstance(hard_breach(GUARD, window(Counts(requests=requests, errors=errors))), Breach) is breaches


@pytest.mark.parametrize(("fast", "slow", "breaches"), [(4, 5, True), (5, 5, False), (0, 4, False), (100, 0, False)])
def test_slow_first_tokens_breach_by_number_and_by_share(fast: int, slow: int, breaches: bool) -> None:
    assert isinstance(hard_breach(GUARD, window(timed(fast, slow))), Breach) is breaches


def test_errors_of_all_intervals_count_together_and_the_reason_has_the_numbers() -> None:
    found = hard_breach(GUARD, window(Counts(requests=4, errors=3), Counts(requests=6, errors=2)))
    assert isinstance(found, Breach)
    assert found.reason == "5 of 10 requests failed, the plan's guard allows 20%"
    assert (found.numbers.requests, found.numbers.errors, found.numbers.window_s) == (10, 5, 20.0)


def test_no_evidence_is_no_breach() -> None:
    assert isinstance(hard_breach(GUARD, []), NoBreach)


def test_long_answers_are_no_breach_when_they_begin_in_time() -> None:
    long_answers = Counts(requests=10, duration=((1000.0, 0), (math.inf, 10)), ttft=((1000.0, 10), (math.inf, 10)))
    assert isinstance(hard_breach(GUARD, window(long_answers)), NoBreach)
