"""The judge on hand-made evidence: what promotes, what holds, what rolls back."""

from __future__ import annotations

import math

import pytest
from judge_stand import RAMP, counts, evidence, histogram, intervals, judged, new, rules

from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Blind, Counts, Evidence, Histogram, Reading
from crossfade.judge.gate import judge
from crossfade.judge.verdict import Decision, Finding, Verdict
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate, PromqlGate

ERRORS: dict[str, Gate] = {"error_rate": ErrorRateGate.model_construct(at_most=0.02)}
ERRORS_RELATIVE: dict[str, Gate] = {"error_rate": ErrorRateGate.model_construct(no_worse_than_source=2.0)}
TTFT: dict[str, Gate] = {"ttft_p95": LatencyGate.model_construct(at_most=500.0)}
TTFT_RELATIVE: dict[str, Gate] = {"ttft_p50": LatencyGate.model_construct(no_worse_than_source=1.3)}
DURATION: dict[str, Gate] = {"duration_p95": LatencyGate.model_construct(at_most=500.0)}
EVERY = {**ERRORS, **TTFT, **DURATION}
GOOD = counts(100)


def row(verdict: Verdict, gate: str) -> Finding:
    return next(finding for finding in verdict.findings if finding.gate == gate)


@pytest.mark.parametrize("gates", [ERRORS, ERRORS_RELATIVE, TTFT, DURATION, EVERY])
def test_a_good_target_is_promoted_and_the_row_shows_why(gates: dict[str, Gate]) -> None:
    verdict = judged(gates, intervals(GOOD, counts(900, errors=4), 8)).verdict
    assert verdict.decision is Decision.PROMOTE
    shown = row(verdict, next(iter(gates)))
    assert (shown.evidence_for or 0) >= 20
    assert (shown.evidence_against or 9) < 2
    assert "of 800" in shown.target
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low <= 0 < shown.high


@pytest.mark.parametrize(
    ("gates", "bad"),
    [
        (ERRORS, counts(100, errors=15)),
        (ERRORS_RELATIVE, counts(100, errors=15)),
        (TTFT, counts(100, slow=40)),
        (DURATION, counts(100, slow=40)),
        (TTFT_RELATIVE, counts(100, slow=100)),
    ],
)
def test_a_bad_target_is_rolled_back_by_the_gate_it_fails_alone(gates: dict[str, Gate], bad: Counts) -> None:
    verdict = judged(gates, intervals(bad, counts(900, errors=4), 8)).verdict
    name = next(iter(gates))
    assert verdict.decision is Decision.ROLL_BACK
    assert [finding.gate for finding in verdict.findings if finding.decision is Decision.ROLL_BACK] == [name]
    assert "passed 20" in verdict.reason


@pytest.mark.parametrize(
    ("bad", "fails"),
    [
        (counts(100, errors=15), "error_rate"),
        (Counts(requests=100, ttft=counts(100, slow=40).ttft, duration=GOOD.duration), "ttft_p95"),
        (Counts(requests=100, ttft=GOOD.ttft, duration=counts(100, slow=40).duration), "duration_p95"),
    ],
)
def test_of_several_gates_only_the_one_that_fails_condemns(bad: Counts, fails: str) -> None:
    verdict = judged(EVERY, intervals(bad, counts(900), 8)).verdict
    assert [finding.gate for finding in verdict.findings if finding.decision is Decision.ROLL_BACK] == [fails]


COMPARING: dict[str, Gate] = {
    name: LatencyGate.model_construct(no_worse_than_source=1.3) for name in ("ttft_p50", "ttft_p95", "duration_p50", "duration_p95")
} | ERRORS_RELATIVE
ALIKE = histogram(fast=52, at_400=44, at_700=4)
SLOWER_P50 = histogram(fast=20, at_400=76, at_700=4)
SLOWER_P95 = histogram(fast=52, at_400=36, beyond=12)


@pytest.mark.parametrize(
    ("ttft", "duration", "errors", "fails"),
    [
        (SLOWER_P95, ALIKE, 0, "ttft_p95"),
        (ALIKE, SLOWER_P95, 0, "duration_p95"),
        (SLOWER_P50, ALIKE, 0, "ttft_p50"),
        (ALIKE, SLOWER_P50, 0, "duration_p50"),
        (ALIKE, ALIKE, 10, "error_rate"),
    ],
)
def test_of_several_gates_that_compare_only_the_one_that_is_worse_condemns(
    ttft: Histogram, duration: Histogram, errors: int, fails: str
) -> None:
    times = histogram(fast=500, at_400=450, at_700=50)
    source = Counts(requests=1000, errors=5, ttft=times, duration=times)
    by = rules(COMPARING).model_copy(update={"baseline": Baseline(ttft=times, duration=times)})
    verdict = judge(by, new(), evidence(intervals(Counts(requests=100, errors=errors, ttft=ttft, duration=duration), source, 20))).verdict
    assert [finding.gate for finding in verdict.findings if finding.decision is Decision.ROLL_BACK] == [fails]


def test_what_lies_between_the_limits_holds() -> None:
    verdict = judged(ERRORS, intervals(counts(100, errors=2), counts(100, errors=2), 8), boundary="cutover").verdict
    assert verdict.decision is Decision.HOLD
    assert "not yet proven to be within 2% errors" in verdict.reason


def test_an_early_step_excludes_what_would_hurt_at_the_next_share() -> None:
    """3 % of errors at the target are 1.5 % of all at a share of 50 %, within the limit; at 100 % they are not."""
    given = intervals(counts(400, errors=9), counts(400, errors=9), 8)
    assert row(judged(ERRORS, given).verdict, "error_rate").decision is Decision.PROMOTE
    assert row(judged(ERRORS, given, boundary="cutover").verdict, "error_rate").decision is Decision.HOLD


def test_a_hard_breach_needs_no_gate_and_waits_for_no_second_interval() -> None:
    verdict = judged({}, intervals(counts(40, errors=40), counts(360), 1)).verdict
    assert verdict.decision is Decision.ROLL_BACK
    assert row(verdict, "hard").decision is Decision.ROLL_BACK


def test_a_blip_of_one_interval_does_not_condemn_and_a_fault_that_stays_does() -> None:
    blip = intervals(counts(100, errors=20), counts(900), 1)
    state = judged(ERRORS, blip).state
    assert not state.condemned
    assert judged(ERRORS, intervals(counts(100, errors=20), counts(900), 5, first=1), state=state).state.condemned


def test_a_gap_that_hides_when_it_happened_weighs_no_more_than_one_interval() -> None:
    short, long = (
        judged(ERRORS, [interval.model_copy(update={"end_s": end_s})]).state
        for interval, end_s in ((intervals(counts(100, errors=25), counts(900), 1)[0], end_s) for end_s in (15.0, 90.0))
    )
    assert not long.condemned
    assert long.e_log == pytest.approx(short.e_log, abs=0.1)


def test_an_outage_both_engines_share_is_not_the_targets() -> None:
    verdict = judged(ERRORS, intervals(counts(100, errors=20), counts(900, errors=180), 8)).verdict
    assert verdict.decision is Decision.HOLD


def test_an_outage_they_shared_is_not_held_against_it_when_the_source_has_no_traffic_any_more() -> None:
    shared = judged(ERRORS, intervals(counts(500, errors=100), counts(500, errors=100), 8), boundary="cutover").state
    verdict = judged(ERRORS, intervals(GOOD, Counts(), 1, first=8), boundary="soak", state=shared).verdict
    assert verdict.decision is not Decision.ROLL_BACK


def test_a_target_from_which_nothing_comes_back_is_rolled_back() -> None:
    verdict = judged(ERRORS, intervals(Counts(), counts(900), 20)).verdict
    assert row(verdict, "silence").decision is Decision.ROLL_BACK


def test_condemned_stays_condemned_also_when_blind() -> None:
    state = judged(ERRORS, intervals(counts(100, errors=20), counts(900), 8)).state
    after = judged(ERRORS, intervals(GOOD, counts(900), 40, first=8), state=state)
    assert after.verdict.decision is Decision.ROLL_BACK
    assert judged(ERRORS, (), state=after.state, blind="Prometheus is down").verdict.decision is Decision.ROLL_BACK


def test_nothing_rises_while_the_evidence_against_is_half_way() -> None:
    doubtful = judged(ERRORS, intervals(counts(100, errors=7), counts(900), 1))
    assert row(doubtful.verdict, "suspicion").decision is Decision.HOLD
    assert doubtful.verdict.decision is Decision.HOLD


@pytest.mark.parametrize("boundary", ["step", "cutover", "soak"])
def test_no_request_on_the_target_holds(boundary: str) -> None:
    for gates in ({}, ERRORS, EVERY):
        assert judged(gates, intervals(Counts(), Counts(), 8), boundary=boundary).verdict.decision is Decision.HOLD
        assert judged(gates, (), boundary=boundary).verdict.decision is Decision.HOLD


def test_too_few_requests_or_too_short_a_time_hold_and_say_so() -> None:
    assert "requests: 20 of 30 requests so far" in judged({}, intervals(counts(10), counts(90), 2)).verdict.reason
    assert "requests: 100 requests in 15s of 30s" in judged({}, intervals(counts(100), counts(900), 1)).verdict.reason


def test_a_target_that_went_quiet_is_not_promoted() -> None:
    state = judged(ERRORS, intervals(counts(300), counts(900), 8)).state
    verdict = judged(ERRORS, intervals(Counts(), counts(9), 3, first=8), state=state).verdict
    assert verdict.decision is Decision.HOLD
    assert "none on the target for 45s" in verdict.reason


def test_at_full_share_comparisons_end_and_the_row_says_so() -> None:
    verdict = judged({**TTFT_RELATIVE, **ERRORS}, intervals(counts(300), Counts(), 8), boundary="soak").verdict
    assert verdict.decision is Decision.PROMOTE
    assert "no source to compare with" in row(verdict, "ttft_p50").reason


def test_shadow_speaks_for_a_step_and_never_for_cutover() -> None:
    given = intervals(counts(6), counts(54), 8, shadow=counts(200))
    assert row(judged(ERRORS, given).verdict, "error_rate").decision is Decision.PROMOTE
    assert row(judged(ERRORS, given, boundary="cutover").verdict, "error_rate").decision is Decision.HOLD
    failing = intervals(counts(100), counts(900), 8, shadow=counts(500, errors=400))
    assert not judged(ERRORS, failing).state.condemned


def test_a_gate_that_is_not_asked_here_still_speaks_against_the_target() -> None:
    later: dict[str, Gate] = {"error_rate": ErrorRateGate.model_construct(at_most=0.02, before=("soak",))}
    assert judged(later, intervals(counts(100, errors=2), counts(900), 8)).verdict.decision is Decision.PROMOTE
    assert judged(later, intervals(counts(100, errors=20), counts(900), 8)).verdict.decision is Decision.ROLL_BACK


def test_time_to_settle_proves_nothing_but_condemns() -> None:
    waits = rules(ERRORS).model_copy(update={"judge": rules(ERRORS).judge.model_copy(update={"settle": 300.0})})
    good = judge(waits, new(), evidence(intervals(counts(300), counts(900), 8)))
    assert good.verdict.decision is Decision.HOLD
    assert judge(waits, new(), evidence(intervals(counts(100, errors=20), counts(900), 8))).state.condemned


def test_evidence_of_one_share_proves_nothing_for_the_next_but_speaks_on_against() -> None:
    state = judged(ERRORS, intervals(counts(300), counts(900), 8)).state
    fresh = judged(ERRORS, intervals(counts(300), counts(300), 1, first=8), boundary="cutover", state=state)
    assert fresh.verdict.decision is Decision.HOLD
    assert fresh.state.rollback


@pytest.mark.parametrize(
    ("value", "breach", "decision"),
    [(0.5, "hold", "promote"), (0.9, "hold", "hold"), (0.95, "roll_back", "roll_back"), (math.nan, "roll_back", "hold")],
)
def test_a_promql_gate_must_be_on_the_right_side_and_nan_is_blindness(value: float, breach: str, decision: str) -> None:
    gates: dict[str, Gate] = {"kv": PromqlGate.model_validate({"promql": "x", "below": 0.9, "breach": breach})}
    assert judged(gates, (), boundary="ramp", readings=(Reading(gate="kv", value=value),)).verdict.decision == decision


def test_before_traffic_only_promql_is_asked_and_nothing_is_remembered() -> None:
    gates: dict[str, Gate] = {"kv": PromqlGate(promql="x", below=1, before=("deploy",)), **ERRORS}
    before = new()
    found = judged(gates, (), boundary="deploy", readings=(Reading(gate="kv", value=0),), state=before)
    assert ([finding.gate for finding in found.verdict.findings], found.verdict.decision) == (["kv"], Decision.PROMOTE)
    assert found.state is before
    blind = judged(gates, (), boundary="ramp", blind="Prometheus did not answer within 5s")
    assert (blind.verdict.decision, blind.verdict.reason) == (Decision.HOLD, "sight: blind: Prometheus did not answer within 5s")


def test_a_promql_gate_that_is_blind_or_was_not_read_holds() -> None:
    gates: dict[str, Gate] = {"kv": PromqlGate(promql="x", above=1)}
    assert judged(gates, (), boundary="ramp", readings=(Blind(gate="kv", why="down"),)).verdict.reason == "kv: blind: down"
    assert judged(gates, (), boundary="ramp").verdict.decision is Decision.HOLD


def test_blindness_holds_and_leaves_the_memory_as_it_is() -> None:
    state = judged(ERRORS, intervals(counts(300), counts(900), 8)).state
    blind = judged(ERRORS, (), state=state, blind="Prometheus hangs")
    assert (blind.verdict.decision, blind.state) == (Decision.HOLD, state)
    assert judged(ERRORS, intervals(counts(300), counts(900), 1, first=8), state=state).verdict.decision is Decision.PROMOTE


@pytest.mark.parametrize(("at_deadline", "said"), [("hold", "tell somebody"), ("roll_back", "back on the source"), ("ask", "ask a person")])
def test_a_deadline_is_never_a_promotion(at_deadline: str, said: str) -> None:
    late = rules(ERRORS, RAMP.model_copy(update={"at_deadline": at_deadline, "deadline": 60.0}))
    verdict = judge(late, new(), evidence(intervals(counts(3), counts(30), 4), held_s=3600.0)).verdict
    assert verdict.decision is Decision.HOLD
    assert said in verdict.next_action


def test_a_stored_verdict_is_judged_again_alike_from_less_than_three_kilobytes_an_interval() -> None:
    given = evidence(intervals(counts(300, errors=2, slow=5), counts(400), 4))
    read_back = Evidence.model_validate_json(given.model_dump_json())
    assert judge(rules(EVERY), new(), read_back) == judge(rules(EVERY), new(), given)
    assert len(given.model_dump_json()) / 4 < 3_000
