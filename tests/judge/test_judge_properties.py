"""What must hold for any evidence."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from crossfade.judge.evidence import Counts, Evidence, Histogram, Interval
from crossfade.judge.gate import judge
from crossfade.judge.histogram import quantile, slower_than
from crossfade.judge.verdict import Decision
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate
from crossfade.plan.model import RampPlan

RAMP = RampPlan.model_validate({"steps": ["100%"], "hold": "0s", "min_requests": 100})
BOUNDS = (10.0, 50.0, 100.0, 500.0, 1000.0, math.inf)
BAD = {Decision.PROMOTE: 0, Decision.HOLD: 1, Decision.ROLL_BACK: 2}

times = st.lists(st.integers(0, 400), min_size=len(BOUNDS), max_size=len(BOUNDS))
limits = st.sampled_from([10.0, 70.0, 500.0, 2000.0])
factors = st.sampled_from([1.0, 1.3, 2.0])
boundaries = st.sampled_from(["step", "cutover", "soak"])


def histogram(per_bucket: list[int]) -> Histogram:
    return tuple((bound, sum(per_bucket[: index + 1])) for index, bound in enumerate(BOUNDS))


@st.composite
def gates(draw: st.DrawFn) -> dict[str, Gate]:
    errors = ErrorRateGate.model_construct(at_most=draw(st.sampled_from([0.0, 0.01, 0.1])), no_worse_than_source=draw(factors))
    absolute = LatencyGate.model_construct(at_most=draw(limits))
    relative = LatencyGate.model_construct(no_worse_than_source=draw(factors))
    every: dict[str, Gate] = {"error_rate": errors, "ttft_p95": absolute, "duration_p50": relative}
    return {name: every[name] for name in draw(st.sets(st.sampled_from(sorted(every))))}


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    requests = draw(st.integers(0, 1000))
    ttft, duration = (histogram(draw(times)) for _ in range(2))
    return Counts(requests=requests, errors=draw(st.integers(0, requests)), ttft=ttft, duration=duration)


def decided(gates: dict[str, Gate], source: Counts, target: Counts, boundary: str = "step") -> Decision:
    interval = Interval(start_s=0, end_s=15, source=source, target=target)
    return judge(gates, RAMP, Evidence(boundary=boundary, held_s=60, intervals=(interval,))).decision


@given(gates(), counts(), boundaries)
def test_nothing_is_promoted_without_a_request_on_the_target(gates: dict[str, Gate], source: Counts, boundary: str) -> None:
    assert decided(gates, source, Counts(), boundary) is Decision.HOLD


@given(gates(), counts(), counts(), st.integers(0, 1000))
def test_more_errors_are_never_better(gates: dict[str, Gate], source: Counts, target: Counts, more: int) -> None:
    worse = target.model_copy(update={"errors": min(target.errors + more, target.requests)})
    assert BAD[decided(gates, source, worse)] >= BAD[decided(gates, source, target)]


@given(gates(), counts(), times, st.integers(0, len(BOUNDS) - 2), st.integers(0, 400))
def test_slower_answers_are_never_better(gates: dict[str, Gate], source: Counts, spread: list[int], bucket: int, moved: int) -> None:
    slower = list(spread)
    moved = min(moved, slower[bucket])
    slower[bucket], slower[bucket + 1] = slower[bucket] - moved, slower[bucket + 1] + moved
    before, after = (Counts(requests=500, ttft=histogram(one), duration=histogram(one)) for one in (spread, slower))
    assert BAD[decided(gates, source, after)] >= BAD[decided(gates, source, before)]


@given(gates(), counts(), counts(), boundaries)
def test_the_order_of_gates_does_not_matter(gates: dict[str, Gate], source: Counts, target: Counts, boundary: str) -> None:
    turned = dict(reversed(gates.items()))
    assert decided(gates, source, target, boundary) is decided(turned, source, target, boundary)


@given(gates(), st.lists(st.tuples(counts(), counts()), min_size=1, max_size=5))
def test_how_evidence_is_cut_into_intervals_does_not_matter(gates: dict[str, Gate], pieces: list[tuple[Counts, Counts]]) -> None:
    intervals = tuple(Interval(start_s=15 * i, end_s=15 * i + 15, source=s, target=t) for i, (s, t) in enumerate(pieces))
    cut = Evidence(boundary="step", held_s=60, intervals=intervals)
    source, target = cut.totals()
    assert judge(gates, RAMP, cut).decision is decided(gates, source, target)


@given(times, limits)
def test_what_is_surely_slower_may_be_slower(spread: list[int], limit_ms: float) -> None:
    slower = slower_than(histogram(spread), limit_ms)
    assert 0 <= slower.at_least <= slower.at_most <= slower.total == sum(spread)


@given(times.filter(any), st.floats(0.01, 0.999))
def test_a_quantile_lies_in_its_bucket(spread: list[int], q: float) -> None:
    found = quantile(histogram(spread), q)
    assert found.low_ms <= found.estimate_ms <= found.high_ms
