"""Evidence and gates in, one verdict out.

Pure and without memory: the same gates and the same evidence give the same verdict, which is how a journal is judged again.
A roll-back found by any gate wins at once, however little else is known; otherwise anything missing holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from crossfade.judge.evidence import Blind, Counts, Evidence, Reading
from crossfade.judge.limits import Limits, judge_error_rate, judge_latency, worst
from crossfade.judge.verdict import Decision, Finding, Verdict
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate, PromqlGate
from crossfade.plan.model import RampPlan
from crossfade.plan.units import format_seconds

_TRAFFIC_MOVES = frozenset({"step", "cutover"})
_USERS_ARE_ON_IT = _TRAFFIC_MOVES | {"soak"}

_NEXT = {
    Decision.PROMOTE: "Go on past this boundary.",
    Decision.HOLD: "Stay where it is and judge again at the next tick; nothing advances on missing evidence.",
    Decision.ROLL_BACK: "Put all requests back on the source and latch the route; a person decides about a new attempt.",
}


def judge(gates: Mapping[str, Gate], ramp: RampPlan, evidence: Evidence) -> Verdict:
    """The verdict of the gates that guard `evidence.boundary`; gates of other boundaries are left out.

    Before `step`, `cutover` and in `soak` requests on the target are needed even when no gate counts them: a ramp advances only on
    evidence in its favour. Before `step` and `cutover` the share must also have been held for `ramp.hold`.
    """
    guarding = {name: gate for name, gate in gates.items() if evidence.boundary in gate.before}
    source, target = evidence.totals()
    findings = [*_preconditions(guarding, ramp, evidence, target)]
    limits = Limits(ramp.min_requests, source_may_be_silent=evidence.boundary == "soak")
    for name, gate in guarding.items():
        if isinstance(gate, ErrorRateGate):
            findings.append(judge_error_rate(name, gate, limits, source, target))
        elif isinstance(gate, LatencyGate):
            findings.append(judge_latency(name, gate, limits, source, target))
        else:
            findings.append(_judge_promql(name, gate, evidence))
    return _verdict(evidence.boundary, tuple(findings))


def _preconditions(guarding: Mapping[str, Gate], ramp: RampPlan, evidence: Evidence, target: Counts) -> list[Finding]:
    counts = any(not isinstance(gate, PromqlGate) for gate in guarding.values())
    findings = []
    if counts or evidence.boundary in _USERS_ARE_ON_IT:
        findings.append(_seen_enough(ramp, evidence, target))
    elif evidence.blind:
        findings.append(Finding(gate="sight", decision=Decision.HOLD, reason=f"blind: {evidence.blind}"))
    if evidence.boundary in _TRAFFIC_MOVES:
        said = f"held for {format_seconds(round(evidence.held_s))} of {format_seconds(ramp.hold)}"
        long_enough = evidence.held_s >= ramp.hold
        findings.append(Finding(gate="hold", decision=Decision.PROMOTE if long_enough else Decision.HOLD, reason=said))
    return findings


def _seen_enough(ramp: RampPlan, evidence: Evidence, target: Counts) -> Finding:
    said = f"{target.requests} of {ramp.min_requests} requests so far"
    if evidence.blind:
        said = f"blind: {evidence.blind}"
    elif not evidence.intervals:
        said = "no evidence yet: Prometheus has no interval of this route"
    elif target.requests >= ramp.min_requests:
        return Finding(gate="requests", decision=Decision.PROMOTE, reason=f"{target.requests} requests", target=str(target.requests))
    return Finding(gate="requests", decision=Decision.HOLD, reason=said, target=str(target.requests))


def _judge_promql(name: str, gate: PromqlGate, evidence: Evidence) -> Finding:
    reading = next((reading for reading in evidence.readings if reading.gate == name), Blind(gate=name, why="it was not read"))
    if isinstance(reading, Blind):
        return Finding(gate=name, decision=Decision.HOLD, reason=f"blind: {reading.why}")
    said = f"{reading.value:g}, must be {_limit(gate)}"
    kept = _on_the_right_side(gate, reading)
    decision = Decision.PROMOTE if kept else Decision.ROLL_BACK if gate.breach == "roll_back" else Decision.HOLD
    return Finding(gate=name, decision=decision, reason=said, target=f"{reading.value:g}")


def _on_the_right_side(gate: PromqlGate, reading: Reading) -> bool:
    """Strictly on the right side; NaN never is."""
    if gate.below is not None:
        return reading.value < gate.below
    return gate.above is not None and reading.value > gate.above


def _limit(gate: PromqlGate) -> str:
    return f"below {gate.below:g}" if gate.below is not None else f"above {gate.above:g}"


def _verdict(boundary: str, findings: tuple[Finding, ...]) -> Verdict:
    decision = worst([finding.decision for finding in findings])
    reason = f"nothing guards {boundary}"
    if findings:
        grouped: dict[str, list[str]] = {}
        for finding in findings:
            if finding.decision is decision:
                grouped.setdefault(finding.reason, []).append(finding.gate)
        reason = "; ".join(f"{', '.join(names)}: {said}" for said, names in grouped.items())
    return Verdict(decision=decision, reason=reason, findings=findings, next_action=_NEXT[decision])
