"""The page a person reads of a tick."""

from __future__ import annotations

import math

from crossfade.judge.evidence import Counts, Evidence, Histogram, Interval, Reading
from crossfade.judge.gate import Rules, judge
from crossfade.judge.state import begin
from crossfade.plan.gates import ErrorRateGate, LatencyGate, PromqlGate
from crossfade.plan.model import JudgePlan, RampPlan
from crossfade.ramp.gatekeeper import Ruled
from crossfade.rollout.state import MigrationState


def histogram(requests: int) -> Histogram:
    return ((100.0, requests - 2), (500.0, requests), (math.inf, requests))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")]


def test_a_verdict_is_a_table_of_both_engines_the_confidence_sequence_and_the_evidence_either_way() -> None:
    from tasks.artifacts import ruling

    gates = {
        "error_rate": ErrorRateGate.model_construct(at_most=0.02),
        "ttft_p95": LatencyGate.model_construct(at_most=500.0),
        "kv": PromqlGate.model_validate({"promql": "max(x) or max(y)", "below": 0.9}),
    }
    rules = Rules(gates=gates, ramp=RampPlan.model_validate({"hold": "0s"}), judge=JudgePlan())
    target, source = (Counts(requests=n, errors=e, ttft=histogram(n)) for n, e in ((200, 1), (800, 4)))
    seen = tuple(Interval(start_s=15.0 * at, end_s=15.0 * at + 15, source=source, target=target) for at in range(10))
    evidence = Evidence(
        boundary="step", step=0, share_bp=2000, next_share_bp=5000, held_s=600, intervals=seen, readings=(Reading(gate="kv", value=0.95),)
    )
    verdict = judge(rules, begin("1@0", judge=rules.judge, since_s=0, halvings=0), evidence).verdict
    page = ruling(Ruled(verdict, evidence, MigrationState(name="a/b", plan_digest="d", phase_since_s=0, share_since_s=0)))
    assert page.startswith("**hold** at `step`: kv: 0.95, must be below 0.9\n\nNext: Stay where it is")
    lines = [cells(line) for line in page.splitlines() if line.startswith("| ")]
    assert lines[0] == ["gate", "source", "target", "95% confidence sequence", "evidence for", "evidence against", "verdict", "why"]
    table = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[1:]}
    errors = table["error_rate"]
    assert (errors["source"], errors["target"], errors["verdict"]) == ("0.5% (40 of 8000)", "0.5% (10 of 2000)", "promote")
    low, _, high = errors["95% confidence sequence"].partition(" to ")
    assert float(low.rstrip("%")) < 0.5 < float(high.rstrip("%"))
    assert float(errors["evidence for"]) >= 20
    assert float(errors["evidence against"]) < 2
    assert "ms" in table["ttft_p95"]["target"]
    assert (table["kv"]["target"], table["kv"]["evidence for"], table["kv"]["verdict"]) == ("0.95", "", "hold")
