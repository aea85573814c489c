"""Predictions against the figures published with the statistics, and histograms too coarse to judge by."""

from __future__ import annotations

import math
from itertools import accumulate
from statistics import NormalDist

import pytest

from crossfade.envoy.names import BUCKETS_MS
from crossfade.judge.baseline import Baseline
from crossfade.judge.estimate import estimate
from crossfade.judge.evidence import Histogram
from crossfade.judge.gate import Rules
from crossfade.judge.preflight import too_coarse
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate
from crossfade.plan.model import JudgePlan, RampPlan

BOUNDS = (*(500 * 1.1**k for k in range(-22, 26)), math.inf)
GATES: dict[str, Gate] = {
    "error_rate": ErrorRateGate.model_construct(at_most=0.01, no_worse_than_source=2.0),
    "ttft_p95": LatencyGate.model_construct(at_most=500.0, no_worse_than_source=1.3),
    "ttft_p50": LatencyGate.model_construct(no_worse_than_source=1.3),
}
JUDGE = JudgePlan.model_validate({"settle": "0s"})
VLLM_MS = (1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000, 20000)


def lognormal(p95_ms: float = 300.0, sigma: float = 0.8) -> Histogram:
    median = math.log(p95_ms) - 1.6448536 * sigma
    below = [NormalDist().cdf((math.log(bound) - median) / sigma) for bound in BOUNDS[:-1]]
    inside = [high - low for low, high in zip([0.0, *below], [*below, 1.0], strict=True)]
    return tuple(zip(BOUNDS, accumulate(round(1e6 * one) for one in inside), strict=True))


def source(error_share: float = 0.005) -> Baseline:
    return Baseline(requests=1_000_000, errors=round(1e6 * error_share), seconds=7200.0, ttft=lognormal())


def rules(steps: list[str] | None = None, error_share: float = 0.005, **more: object) -> Rules:
    ramp = RampPlan.model_validate({"hold": "0s", "steps": steps or ["1%", "5%", "25%", "50%", "100%"], **more})
    return Rules(gates=GATES, ramp=ramp, judge=JUDGE, baseline=source(error_share))


@pytest.mark.parametrize(("error_share", "published"), [(0.005, [95, 520, 2076, 9678]), (0.0005, [112, 658, 1624, 4425])])
def test_requests_a_step_are_those_published(error_share: float, published: list[int]) -> None:
    found = estimate(rules(error_share=error_share), 1.0)
    assert [step.binding for step in found.steps[1:]] == ["error_rate"] * 3
    assert [step.requests for step in found.steps[1:]] == pytest.approx(published[1:], rel=0.01)
    # what binds the first step may be a latency, which was published for a percentile that is itself a bound
    assert found.steps[0].requests == pytest.approx(published[0], rel=0.1)


@pytest.mark.parametrize(
    ("steps", "requests_per_s", "minutes"), [(None, 10, 79), (None, 50, 16), (None, 1, 793), (["10%", "50%", "100%"], 1, 572)]
)
def test_the_whole_ramp_takes_the_published_minutes(steps: list[str] | None, requests_per_s: float, minutes: float) -> None:
    assert estimate(rules(steps), requests_per_s).seconds / 60 == pytest.approx(minutes, rel=0.03)


def test_a_step_that_cannot_end_in_time_says_so_and_what_would_help() -> None:
    found = estimate(rules(deadline="1h"), 1.0)
    assert [step.in_time for step in found.steps] == [False, False, False, False]
    assert found.steps[-1].binding == "error_rate"
    assert {"steps: [10%, 50%, 100%]", "no_worse_than_source twice as far from the source"} <= {one.what for one in found.helps}
    assert all(one.seconds < found.seconds for one in found.helps)


def test_without_traffic_it_never_ends() -> None:
    assert math.isinf(estimate(rules(), 0.0).seconds)


def test_shadow_speeds_up_early_steps_and_not_cutover() -> None:
    errors_only = rules(shadow="100%").model_copy(update={"gates": {"error_rate": GATES["error_rate"]}})
    plain = errors_only.model_copy(update={"ramp": errors_only.ramp.model_copy(update={"shadow": 0})})
    with_shadow, without = estimate(errors_only, 10.0), estimate(plain, 10.0)
    assert with_shadow.steps[0].seconds <= without.steps[0].seconds
    assert with_shadow.steps[1].seconds < without.steps[1].seconds
    assert with_shadow.steps[-1].seconds == without.steps[-1].seconds


def test_the_routers_bounds_are_fine_enough_for_the_default_gates() -> None:
    assert too_coarse(GATES, JUDGE, {"ttft": [float(bound) for bound in BUCKETS_MS]}) == ()


def test_a_limit_between_two_bounds_is_refused_with_both() -> None:
    gates: dict[str, Gate] = {"ttft_p95": LatencyGate.model_construct(at_most=600.0)}
    (found,) = too_coarse(gates, JUDGE, {"ttft": VLLM_MS})
    assert found.why == "ttft_p95: at_most: 600ms is no bound of the histogram; write 500ms or 750ms"


def test_a_ratio_finer_than_the_bounds_is_refused_with_the_least_that_works() -> None:
    gates: dict[str, Gate] = {"ttft_p95": LatencyGate.model_construct(no_worse_than_source=1.3)}
    (found,) = too_coarse(gates, JUDGE, {"ttft": VLLM_MS}, Baseline(ttft=((250.0, 90), (500.0, 100), (math.inf, 100))))
    assert found.why.endswith("whose next bound after 500ms is 1.5 times as long; write 1.5x or more")


def test_no_histogram_at_all_is_said() -> None:
    assert "no histogram" in too_coarse(GATES, JUDGE, {})[0].why
