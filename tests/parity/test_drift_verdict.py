"""What is made of the numbers of two models that read the same answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.judge.verdict import Decision
from crossfade.parity.drift import Answer, DriftReport, judge_drift, measure_drift
from crossfade.plan.model import DriftPlan

BOUNDS = DriftPlan.model_validate({"logprob_at_most": 0.1, "agreement_at_least": "90%"})


def answer(base=(-0.1, -0.2), other=(-0.1, -0.2), first=(True, True), text="10", base_first=(True, True)):
    return Answer(prompt="What is 4+6?", base_text="10", text=text, base_logprobs=base, logprobs=other, base_first=base_first, first=first)


def report(*answers):
    return measure_drift(answers, engine="vllm on cpu", suite="eval.jsonl")


def test_the_same_weights_drift_nowhere():
    found = report(answer())
    assert (found.mean_drift, found.max_drift, found.tokens, found.agreement.rate, found.identical.rate) == (0, 0, 2, 1, 1)
    assert judge_drift(found, BOUNDS).decision is Decision.PROMOTE


def test_drift_is_the_mean_of_differences_in_either_direction():
    found = report(answer(other=(-0.3, 0.0)))
    assert math.isclose(found.mean_drift, 0.2)
    verdict = judge_drift(found, BOUNDS)
    assert verdict.decision is Decision.ROLL_BACK
    assert "0.2000 over 2 tokens, the plan allows 0.1" in verdict.reason
    assert "gentler quantize" in verdict.next_action


def test_answers_that_would_have_been_others_stop_although_their_probabilities_are_near():
    verdict = judge_drift(report(answer(first=(True, False), text="11")), BOUNDS)
    assert verdict.decision is Decision.ROLL_BACK
    assert "greedy agreement 1 of 2" in verdict.reason


def test_a_token_without_any_probability_is_never_averaged_away():
    found = report(answer(other=(None, -0.2)), *[answer()] * 500)
    assert found.broken == 1
    assert judge_drift(found, BOUNDS).decision is Decision.ROLL_BACK


def test_nothing_measured_is_no_pass():
    assert judge_drift(report(), BOUNDS).decision is Decision.HOLD


def test_a_bound_the_engine_itself_cannot_meet_is_named_as_such():
    noisy = report(answer(first=(True, False), base_first=(True, False)))
    assert "no weights can meet this bound" in judge_drift(noisy, BOUNDS).reason


def test_the_report_comes_back_from_the_journal_as_it_was():
    found = report(answer(text="11"))
    assert DriftReport.model_validate_json(found.model_dump_json()) == found


@given(st.lists(st.tuples(st.floats(-30, 0), st.floats(-30, 0)), min_size=1, max_size=50))
def test_drift_is_the_same_whichever_side_is_called_the_base(pairs):
    left, right = zip(*pairs, strict=True)
    firsts = (True,) * len(pairs)
    there = report(answer(left, right, firsts, base_first=firsts))
    back = report(answer(right, left, firsts, base_first=firsts))
    assert math.isclose(there.mean_drift, back.mean_drift)
    assert 0 <= there.mean_drift <= there.max_drift * (1 + 1e-9)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_no_weights_could_meet_is_refused(limit):
    with pytest.raises(ValueError, match="greater than 0"):
        DriftPlan(logprob_at_most=limit)
