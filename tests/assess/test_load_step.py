"""How much load a target is put under, and what its answers to that mean."""

import math

import pytest

from crossfade.assess.load import Load as Planned
from crossfade.assess.load_step import Load, LoadShown, busiest, judge_load, load_for, longest_stall
from crossfade.judge.evidence import Counts, Interval
from crossfade.judge.verdict import Decision
from crossfade.plan.model import GuardPlan, LoadStepPlan

GOOD = LoadShown(
    load=Load(at_once=10, why="test"), first_s=3.0, warm_s=0.1, seconds=30.0, requests=400, failed=2, failures=("503",), median_s=0.5,
    p95_s=0.9, slow=0, tokens_per_s=900.0, tokens_per_request=70.0, preemptions=1, kv_tokens=1000, kv_share=0.6, stalled_s=0.5,
)  # fmt: skip


def judged(**changes):
    return judge_load(GOOD.model_copy(update=changes), LoadStepPlan(), GuardPlan())


def test_a_target_that_carries_it_goes_on():
    verdict = judged()
    assert verdict.decision is Decision.PROMOTE
    assert "400 answers, 2 failed" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "gate", "said"),
    [
        ({"failed": 5}, "answers", r"5 of 400 requests failed (503)"),
        ({"requests": 0, "failed": 0}, "answers", "0 of 0"),
        ({"kv_tokens": 699}, "KV room", "holds 699 tokens, 10 requests of 70 need 700"),
        ({"planned_tokens": 195_000}, "KV room", "holds 1,000 tokens, the plan's workload.load needs 195,000 at once"),
        ({"preemptions": 5}, "preemptions", "5 requests were thrown out"),
        ({"stalled_s": 20.0}, "progress", "stood still for 20.0 s"),
        ({"slow": 201}, "guard", "the guard would bring users back"),
    ],
)
def test_each_thing_it_may_fail_at_stops_alone_and_is_named(changes, gate, said):
    verdict = judged(**changes)
    assert verdict.decision is Decision.ROLL_BACK
    assert next(one.gate for one in verdict.findings if one.decision is not Decision.PROMOTE) == gate
    assert said in verdict.reason
    if changes.get("requests") != 0:
        assert sum(one.decision is not Decision.PROMOTE for one in verdict.findings) == 1


def test_a_vllm_that_does_not_say_its_room_is_not_refused_for_it():
    assert judged(kv_tokens=None).decision is Decision.PROMOTE


def test_the_load_is_the_measured_peak_and_a_third_more():
    assert load_for(LoadStepPlan(), 7.2).at_once == math.ceil(7.2 * 1.3)
    assert load_for(LoadStepPlan(), 10.0).at_once == 13
    assert "busiest interval had 7.2 at once" in load_for(LoadStepPlan(), 7.2).why


def test_a_load_that_the_plan_names_counts_where_it_is_more_than_was_measured():
    planned = Planned(prompt_tokens=100, output_tokens=50, at_once=20, source="planned")
    by_rate = Planned(prompt_tokens=100, output_tokens=50, requests_per_s=4, seconds=5, source="planned")
    for peak in (None, 7.2):
        assert load_for(LoadStepPlan(), peak, planned).at_once == load_for(LoadStepPlan(), peak, by_rate).at_once == 26
    assert load_for(LoadStepPlan(), 7.2, planned).why == "20 requests at once, planned, times 1.3"
    assert load_for(LoadStepPlan(), 7.2, by_rate).why == "4 requests/s x 5 s each, planned (Little's law), times 1.3"
    assert load_for(LoadStepPlan(), 30.0, planned).at_once == 39
    assert load_for(LoadStepPlan(at_once=10), 30.0, planned).at_once == 13


def test_what_the_plan_says_goes_before_what_was_measured():
    assert load_for(LoadStepPlan(at_once=40, times=2), 7.2).at_once == 80


@pytest.mark.parametrize("peak", [None, 0.0, 0.01])
def test_without_traffic_there_is_still_a_queue(peak):
    assert load_for(LoadStepPlan(), peak).at_once == 2


def interval(at_s, *buckets):
    return Interval(start_s=at_s, end_s=at_s + 10, source=Counts(requests=buckets[-1][1], duration=buckets), target=Counts())


def test_the_busiest_interval_counts_and_not_the_mean():
    quiet = interval(0, (1000.0, 10), (2000.0, 10), (math.inf, 10))
    busy = interval(10, (1000.0, 20), (2000.0, 60), (math.inf, 60))
    assert busiest([quiet, busy]) == pytest.approx((20 * 1 + 40 * 2) / 10)


def test_requests_beyond_the_last_bound_count_with_it():
    assert busiest([interval(0, (1000.0, 0), (math.inf, 5))]) == pytest.approx(0.5)


def test_without_intervals_nothing_was_busy():
    assert busiest([]) == 0


@pytest.mark.parametrize(
    ("looks", "stalled_s"),
    [
        ([(0, 1, True), (1, 2, True), (2, 3, True)], 0),
        ([(0, 1, True), (1, 1, True), (3, 1, True), (4, 2, True)], 3),
        ([(0, 1, False), (9, 1, False), (10, 1, True)], 1),
        ([(0, 1, True), (2, 1, True), (3, 1, False), (8, 1, True)], 5),
        ([], 0),
    ],
)
def test_standing_still_is_time_without_a_step_while_requests_run(looks, stalled_s):
    assert longest_stall(looks) == stalled_s
