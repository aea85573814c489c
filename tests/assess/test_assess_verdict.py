from dataclasses import replace

from assess_facts import SOURCE, TARGET

from crossfade.assess.inventory import Demand
from crossfade.assess.shape import Shape
from crossfade.assess.verdict import assess
from crossfade.judge.verdict import Decision
from crossfade.plan.model import Workload

NOBODY = Workload(external_users=False, sla=False)


def test_a_model_with_users_and_matching_weights_is_promoted():
    verdict = assess(SOURCE, TARGET, Workload())
    assert verdict.decision == Decision.PROMOTE
    assert verdict.next_action == "go on"
    assert [finding.gate for finding in verdict.findings][:2] == ["inventory", "framework"]


def test_warnings_do_not_stop_but_are_counted_and_listed():
    verdict = assess(replace(SOURCE, capabilities=("completion", "tools")), TARGET, Workload())
    assert verdict.decision == Decision.PROMOTE
    assert verdict.next_action == "go on, and read 1 warning"
    assert any(finding.gate == "H5" and "target.vllm.tool_parser" in finding.reason for finding in verdict.findings)


def test_other_weights_stop_with_both_values_even_when_everything_speaks_for_moving():
    verdict = assess(SOURCE, replace(TARGET, shape=Shape("llama", 3, 2, 32000, 256)), Workload())
    assert verdict.decision == Decision.ROLL_BACK
    assert "H18" in verdict.reason
    assert "512" in verdict.reason
    assert "32000" in verdict.reason


def test_a_missing_measurement_holds_and_says_what_to_answer():
    verdict = assess(SOURCE, TARGET, NOBODY)
    assert verdict.decision == Decision.HOLD
    assert "workload" in verdict.next_action


def test_a_model_nobody_else_uses_is_left_where_it_is():
    verdict = assess(SOURCE, TARGET, NOBODY, demand=Demand(peak_concurrency=1))
    assert verdict.decision == Decision.ROLL_BACK
    assert verdict.next_action == "leave this model on the source"


def test_a_stand_in_is_never_taken_for_ollama():
    reason = assess(replace(SOURCE, stand_in=True), TARGET, Workload()).findings[0].reason
    assert reason.startswith("a stand-in for Ollama, version 0.12.6, serves lab:latest")
