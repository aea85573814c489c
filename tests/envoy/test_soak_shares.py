"""The split itself: as large as asked, and nobody is moved back while it grows."""

from __future__ import annotations

import logging
import math

import pytest
from envoy_wire import ask_many, with_wire_engines

pytestmark = pytest.mark.slow

_LOG = logging.getLogger(__name__)

REQUESTS = 2_000
SHARES_BP = (100, 1_000, 2_500, 5_000, 9_000)
CHANCE = 0.001 / len(SHARES_BP)
"""Of a false alarm at one share, so that all five together stay within their intervals in 99.9 % of runs."""


@pytest.fixture
def wire_rig(cold_rig):
    return with_wire_engines(cold_rig)


def binomial_interval(count: int, share: float, chance: float) -> tuple[int, int]:
    """The smallest and largest number of hits, each side cut off where less than half of `chance` lies beyond."""
    weights = [
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(count - hits + 1)
            + hits * math.log(share)
            + (count - hits) * math.log1p(-share)
        )
        for hits in range(count + 1)
    ]
    return _cut_off(weights, chance / 2), count - _cut_off(weights[::-1], chance / 2)


def _cut_off(weights: list[float], chance: float) -> int:
    beyond = 0.0
    for hits, weight in enumerate(weights):
        beyond += weight
        if beyond > chance:
            return hits
    raise AssertionError("weights sum to less than the chance")


def test_the_share_seen_lies_within_the_binomial_interval_of_the_share_asked(wire_rig):
    seen = {}
    for share_bp in SHARES_BP:
        wire_rig.route(share_bp)
        answers = ask_many(wire_rig.stack.listen, REQUESTS, model="m")
        assert set(answers) <= {"source", "target"}
        seen[share_bp] = answers.count("target")
    _LOG.info(f"of {REQUESTS} requests on the target, by share in basis points: {seen}")
    for share_bp, hits in seen.items():
        low, high = binomial_interval(REQUESTS, share_bp / 10_000, CHANCE)
        assert low <= hits <= high, f"{share_bp} bp: {hits} of {REQUESTS} is outside {low}..{high}"


def test_a_share_of_nothing_or_of_everything_is_exact(wire_rig):
    for share_bp, engine in ((0, "source"), (10_000, "target")):
        wire_rig.route(share_bp)
        assert set(ask_many(wire_rig.stack.listen, REQUESTS, model="m")) == {engine}


def test_a_growing_share_moves_none_of_a_thousand_conversations_back(wire_rig):
    sessions = [f"conversation-{number}" for number in range(1_000)]
    on_target: set[str] = set()
    sizes = {}
    for share_bp in (0, 1, 100, 500, 2_500, 5_000, 9_999, 10_000):
        wire_rig.route(share_bp)
        answers = ask_many(wire_rig.stack.listen, len(sessions), model="m", sessions=sessions)
        now = {session for session, engine in zip(sessions, answers, strict=True) if engine == "target"}
        assert on_target <= now, f"at {share_bp} bp {len(on_target - now)} conversations went back"
        on_target = now
        sizes[share_bp] = len(now)
    _LOG.info(f"of 1,000 conversations on the target, by share in basis points: {sizes}")
    assert sizes[0] == 0
    assert sizes[10_000] == 1_000
    assert abs(sizes[5_000] - 500) < 100


def test_a_falling_share_moves_back_only_conversations_that_are_on_the_target(wire_rig):
    sessions = [f"conversation-{number}" for number in range(300)]
    wire_rig.route(8_000)
    high = ask_many(wire_rig.stack.listen, 300, model="m", sessions=sessions)
    wire_rig.route(2_000)
    low = ask_many(wire_rig.stack.listen, 300, model="m", sessions=sessions)
    assert not [key for key, before, after in zip(sessions, high, low, strict=True) if (before, after) == ("source", "target")]
