"""The judge on hand-made evidence: what promotes, what holds, what rolls back."""

from __future__ import annotations

import math

import pytest

from crossfade.judge.evidence import Blind, Counts, Evidence, Histogram, Interval, Reading
from crossfade.judge.gate import judge
from crossfade.judge.verdict import Decision, Verdict
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate, PromqlGate
from crossfade.plan.model import RampPlan

RAMP = RampPlan.model_validate({"steps": ["10%", "100%"], "hold": "60s", "min_requests": 300})
ERRORS = {"error_rate": ErrorRateGate.model_construct(at_most=0.01)}
ERRORS_RELATIVE = {"error_rate": ErrorRateGate.model_construct(no_worse_than_source=2.0)}
TTFT = {"ttft_p95": LatencyGate.model_construct(at_most=500.0)}
TTFT_RELATIVE = {"ttft_p95": LatencyGate.model_construct(no_worse_than_source=1.3)}


def histogram(*, fast: int = 0, at_400: int = 0, at_700: int = 0, beyond: int = 0) -> Histogram:
    """Answers below 100 ms, in 250..500, in 500..1000, and over the last bound of 1000 ms."""
    total = fast + at_400 + at_700 + beyond
    return ((100.0, fast), (250.0, fast), (500.0, fast + at_400), (1000.0, total - beyond), (math.inf, total))


def evidence(target: Counts, source: Counts | None = None, *, boundary: str = "step", held_s: float = 60, **more: object) -> Evidence:
    interval = Interval(start_s=0, end_s=15, source=source or Counts(), target=target)
    return Evidence.model_validate({"boundary": boundary, "held_s": held_s, "intervals": (interval,), **more})


def ruled(gates: dict[str, Gate], target: Counts, source: Counts | None = None, **more: object) -> Decision:
    return judge(gates, RAMP, evidence(target, source, **more)).decision


def reason(verdict: Verdict, gate: str) -> str:
    return next(finding.reason for finding in verdict.findings if finding.gate == gate)


@pytest.mark.parametrize(
    ("requests", "errors", "decision"),
    [
        (300, 0, Decision.PROMOTE),
        (300, 3, Decision.PROMOTE),  # exactly the limit
        (300, 4, Decision.ROLL_BACK),
        (299, 0, Decision.HOLD),  # not enough
        (75, 3, Decision.ROLL_BACK),  # plainly bad at a quarter of the requests
        (74, 3, Decision.HOLD),
        (80, 2, Decision.HOLD),  # over the limit, but two errors decide nothing
        (0, 0, Decision.HOLD),
    ],
)
def test_an_error_rate_is_judged_on_enough_requests(requests: int, errors: int, decision: Decision) -> None:
    assert ruled(ERRORS, Counts(requests=requests, errors=errors)) is decision


def test_a_hold_says_how_many_requests_are_missing() -> None:
    verdict = judge(ERRORS, RAMP, evidence(Counts(requests=73)))
    assert verdict.decision is Decision.HOLD
    assert verdict.reason == "requests, error_rate: 73 of 300 requests so far"


def test_a_finding_shows_both_sides_in_numbers() -> None:
    verdict = judge(ERRORS, RAMP, evidence(Counts(requests=400, errors=1), Counts(requests=500, errors=5)))
    finding = verdict.findings[-1]
    assert (finding.source, finding.target) == ("1% (5 of 500)", "0.25% (1 of 400)")


@pytest.mark.parametrize(
    ("target", "source", "decision"),
    [
        ((1000, 20), (1000, 10), Decision.PROMOTE),
        ((1000, 30), (1000, 10), Decision.ROLL_BACK),
        ((300, 0), (1000, 0), Decision.PROMOTE),
        ((1000, 2), (1000, 0), Decision.HOLD),  # a source without errors was not shown to have none for ever
        ((1000, 4), (1000, 0), Decision.ROLL_BACK),
        ((1000, 30), (299, 0), Decision.HOLD),  # nothing to compare with, and no other limit
    ],
)
def test_an_error_rate_is_compared_with_the_source(target: tuple[int, int], source: tuple[int, int], decision: Decision) -> None:
    ours, theirs = (Counts(requests=requests, errors=errors) for requests, errors in (target, source))
    assert ruled(ERRORS_RELATIVE, ours, theirs) is decision


def test_without_a_source_to_compare_with_the_absolute_limit_decides_alone() -> None:
    both = {"error_rate": ErrorRateGate.model_construct(at_most=0.01, no_worse_than_source=2.0)}
    verdict = judge(both, RAMP, evidence(Counts(requests=300)))
    assert verdict.decision is Decision.PROMOTE
    assert "no comparison: the source has 0 of 300 requests" in reason(verdict, "error_rate")


def test_at_full_share_a_comparison_is_left_out_and_says_so() -> None:
    verdict = judge(TTFT_RELATIVE, RAMP, evidence(Counts(requests=300, ttft=histogram(fast=300)), boundary="soak"))
    assert verdict.decision is Decision.PROMOTE
    assert "no comparison" in reason(verdict, "ttft_p95")


@pytest.mark.parametrize(
    ("times", "decision"),
    [
        (histogram(fast=285, at_700=15), Decision.PROMOTE),  # exactly 5 % over
        (histogram(fast=284, at_700=16), Decision.ROLL_BACK),
        (histogram(fast=284, at_400=16), Decision.PROMOTE),
        (histogram(fast=60, at_700=20), Decision.ROLL_BACK),
        (histogram(fast=74, at_700=6), Decision.HOLD),  # 7.5 % of 80: below twice what is allowed
        (histogram(), Decision.HOLD),
    ],
)
def test_a_latency_limit_is_a_share_of_slow_requests(times: Histogram, decision: Decision) -> None:
    assert ruled(TTFT, Counts(requests=times[-1][1], ttft=times)) is decision


def test_a_bound_too_coarse_to_tell_holds_and_says_so() -> None:
    between = {"ttft_p95": LatencyGate.model_construct(at_most=700.0)}
    verdict = judge(between, RAMP, evidence(Counts(requests=300, ttft=histogram(fast=200, at_700=100))))
    assert verdict.decision is Decision.HOLD
    assert "no histogram bound is that fine" in verdict.reason


@pytest.mark.parametrize(
    ("target", "decision"),
    [
        (histogram(fast=300), Decision.PROMOTE),
        (histogram(at_700=300), Decision.ROLL_BACK),
        (histogram(beyond=300), Decision.ROLL_BACK),
        (histogram(fast=270, at_400=30), Decision.ROLL_BACK),
        (histogram(at_700=100), Decision.HOLD),
    ],
)
def test_a_percentile_is_compared_with_the_source(target: Histogram, decision: Decision) -> None:
    source = Counts(requests=300, ttft=histogram(fast=300))
    assert ruled(TTFT_RELATIVE, Counts(requests=target[-1][1], ttft=target), source) is decision


def test_a_difference_smaller_than_the_buckets_is_not_held_against_the_target() -> None:
    source = Counts(requests=300, ttft=histogram(fast=286, at_400=14))
    assert ruled(TTFT_RELATIVE, Counts(requests=300, ttft=histogram(fast=280, at_400=20)), source) is Decision.HOLD


def test_each_measure_is_judged_by_its_own_histogram() -> None:
    slow_to_end = Counts(requests=300, ttft=histogram(fast=300), duration=histogram(at_700=300))
    assert ruled(TTFT, slow_to_end) is Decision.PROMOTE
    assert ruled({"duration_p95": LatencyGate.model_construct(at_most=500.0)}, slow_to_end) is Decision.ROLL_BACK


@pytest.mark.parametrize(
    ("value", "breach", "decision"),
    [
        (0.5, "hold", Decision.PROMOTE),
        (0.9, "hold", Decision.HOLD),
        (0.95, "roll_back", Decision.ROLL_BACK),
        (math.nan, "hold", Decision.HOLD),
    ],
)
def test_a_promql_gate_must_be_on_the_right_side(value: float, breach: str, decision: Decision) -> None:
    gates = {"kv": PromqlGate.model_validate({"promql": "x", "below": 0.9, "breach": breach})}
    readings = (Reading(gate="kv", value=value),)
    assert ruled(gates, Counts(), boundary="ramp", readings=readings) is decision


def test_a_promql_gate_that_is_blind_or_was_not_read_holds() -> None:
    gates = {"kv": PromqlGate(promql="x", above=1)}
    blind = judge(gates, RAMP, evidence(Counts(), boundary="ramp", readings=(Blind(gate="kv", why="down"),)))
    assert (blind.decision, blind.reason) == (Decision.HOLD, "kv: blind: down")
    assert ruled(gates, Counts(), boundary="ramp") is Decision.HOLD


def test_only_gates_of_the_boundary_are_asked() -> None:
    gates = {"kv": PromqlGate(promql="x", below=1, before=("deploy",)), **ERRORS}
    verdict = judge(gates, RAMP, evidence(Counts(), boundary="deploy", readings=(Reading(gate="kv", value=0),)))
    assert ([finding.gate for finding in verdict.findings], verdict.decision) == (["kv"], Decision.PROMOTE)


def test_a_boundary_nothing_guards_is_open_before_traffic_and_never_with_it() -> None:
    assert ruled({}, Counts(), boundary="deploy") is Decision.PROMOTE
    for boundary in ("step", "cutover", "soak"):
        assert ruled({}, Counts(), boundary=boundary) is Decision.HOLD


def test_a_share_is_held_long_enough_before_the_next_but_a_breach_waits_for_nothing() -> None:
    assert ruled(ERRORS, Counts(requests=300), held_s=59) is Decision.HOLD
    assert ruled(ERRORS, Counts(requests=300, errors=30), held_s=1) is Decision.ROLL_BACK
    assert ruled(ERRORS, Counts(requests=300), held_s=1, boundary="soak") is Decision.PROMOTE


def test_blindness_holds_and_says_why() -> None:
    verdict = judge(ERRORS, RAMP, Evidence(boundary="step", held_s=60, blind="Prometheus did not answer within 5s"))
    assert verdict.decision is Decision.HOLD
    assert "blind: Prometheus did not answer within 5s" in verdict.reason


def test_no_interval_at_all_holds() -> None:
    assert judge(ERRORS, RAMP, Evidence(boundary="step", held_s=60)).decision is Decision.HOLD


def test_one_gate_that_rolls_back_outweighs_all_that_hold_or_promote() -> None:
    gates = {**ERRORS, "kv": PromqlGate(promql="x", below=1, breach="roll_back"), "queue": PromqlGate(promql="y", below=1)}
    verdict = judge(gates, RAMP, evidence(Counts(requests=1), held_s=1, readings=(Reading(gate="kv", value=2),)))
    assert (verdict.decision, verdict.reason) == (Decision.ROLL_BACK, "kv: 2, must be below 1")


def test_a_stored_verdict_is_judged_again_alike() -> None:
    given = evidence(Counts(requests=300, errors=2, ttft=histogram(fast=290, beyond=10)), Counts(requests=400))
    read_back = Evidence.model_validate_json(given.model_dump_json())
    assert judge({**ERRORS, **TTFT}, RAMP, read_back) == judge({**ERRORS, **TTFT}, RAMP, given)
