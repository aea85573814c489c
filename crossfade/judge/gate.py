"""Rules, memory and new evidence in; memory and one verdict out.

Pure: the same three give the same verdict, which is how a journal is judged again. Each new interval is folded into the memory on its
own, so that it does not matter how many come at once; the verdict is read from the memory afterwards, and a call without new intervals
says the same again. A roll-back found by any gate wins at once and for good; otherwise anything missing holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from crossfade.judge.evidence import Evidence
from crossfade.judge.findings import gate_findings, promql_finding, watch_finding
from crossfade.judge.fold import fold
from crossfade.judge.rules import Rules, Yardstick
from crossfade.judge.state import JudgeState
from crossfade.judge.verdict import Decision, Finding, Verdict, worst
from crossfade.plan.gates import PromqlGate
from crossfade.plan.model import RampPlan
from crossfade.plan.units import format_seconds

__all__ = ["Judged", "Rules", "judge"]

_TRAFFIC_MOVES = frozenset({"step", "cutover"})
_USERS_ARE_ON_IT = _TRAFFIC_MOVES | {"soak"}

_NEXT = {
    Decision.PROMOTE: "Go on past this boundary.",
    Decision.HOLD: "Stay where it is and judge again at the next tick; nothing advances on missing evidence.",
    Decision.ROLL_BACK: "Put all requests back on the source and latch the route; a person decides about a new attempt.",
}
_AT_DEADLINE = {
    "hold": "The step's deadline has passed: keep holding and tell somebody. A deadline never promotes.",
    "roll_back": "The step's deadline has passed: put all requests back on the source, as the plan says.",
    "ask": "The step's deadline has passed: keep holding and ask a person whether to go on holding or to roll back.",
}


@dataclass(frozen=True)
class Judged:
    """A verdict, and the memory to hand to the next call."""

    state: JudgeState
    verdict: Verdict


def judge(rules: Rules, state: JudgeState, evidence: Evidence) -> Judged:
    """The verdict at `evidence.boundary`.

    Before traffic (`download` to `ramp`) only PromQL gates are asked and the memory stays as it is. From `step` on, every gate that
    counts speaks against the target, whatever its `before`; which of them must also be proven, `before` says. What cannot be seen
    holds and leaves the memory as it is.
    """
    if evidence.boundary not in _USERS_ARE_ON_IT:
        return Judged(state, _verdict(rules.ramp, evidence, [*_sight(evidence), *_instant(rules, evidence)]))
    yardstick = Yardstick.of(rules)
    if not evidence.blind:
        state = fold(yardstick, state, evidence)
    findings = [*_enough(rules, state, evidence), *_held(rules.ramp, evidence)]
    if not evidence.blind or state.condemned:
        findings += [*_suspicion(rules, state), *_watched(state), *gate_findings(yardstick, state, evidence)]
    return Judged(state, _verdict(rules.ramp, evidence, [*findings, *_instant(rules, evidence)]))


def _instant(rules: Rules, evidence: Evidence) -> list[Finding]:
    gates = ((name, gate) for name, gate in rules.gates.items() if evidence.boundary in gate.before)
    return [promql_finding(name, gate, evidence) for name, gate in gates if isinstance(gate, PromqlGate)]


def _sight(evidence: Evidence) -> list[Finding]:
    return [Finding(gate="sight", decision=Decision.HOLD, reason=f"blind: {evidence.blind}")] if evidence.blind else []


def _enough(rules: Rules, state: JudgeState, evidence: Evidence) -> list[Finding]:
    """Whether there were requests on the target, and for long enough. Without any, no share ever rises."""
    if evidence.blind:
        return _sight(evidence)
    least, judge = rules.ramp.min_requests, rules.judge
    counted = f"{state.requests} requests in {format_seconds(round(state.seconds))}"
    decision, said = Decision.PROMOTE, counted
    if state.requests < least:
        decision, said = Decision.HOLD, f"{state.requests} of {least} requests so far"
    elif state.seconds < judge.min_evidence:
        decision, said = Decision.HOLD, f"{counted} of {format_seconds(judge.min_evidence)}"
    elif state.quiet_s > max(judge.min_evidence, judge.interval):
        decision, said = Decision.HOLD, f"{counted}, but none on the target for {format_seconds(round(state.quiet_s))}"
    return [Finding(gate="requests", decision=decision, reason=said, target=str(state.requests))]


def _held(ramp: RampPlan, evidence: Evidence) -> list[Finding]:
    if evidence.boundary not in _TRAFFIC_MOVES:
        return []
    said = f"held for {format_seconds(round(evidence.held_s))} of {format_seconds(ramp.hold)}"
    long_enough = evidence.held_s >= ramp.hold
    return [Finding(gate="hold", decision=Decision.PROMOTE if long_enough else Decision.HOLD, reason=said)]


def _watched(state: JudgeState) -> list[Finding]:
    return [watch_finding(name, state) for name in ("hard", "silence")]


def _suspicion(rules: Rules, state: JudgeState) -> list[Finding]:
    """Half-way to a roll-back nothing rises: a row that holds while the evidence against is that strong, else none."""
    if state.condemned or state.e_log < log(rules.judge.suspicion / state.budget):
        return []
    reason = f"suspicious: evidence {exp(state.e_log):.3g} of {1 / state.budget:.3g} for a rollback, most of it {state.strongest}"
    return [Finding(gate="suspicion", decision=Decision.HOLD, reason=reason, evidence_against=exp(state.e_log))]


def _verdict(ramp: RampPlan, evidence: Evidence, findings: list[Finding]) -> Verdict:
    decision = worst([finding.decision for finding in findings])
    reason = f"nothing guards {evidence.boundary}"
    if findings:
        grouped: dict[str, list[str]] = {}
        for finding in findings:
            if finding.decision is decision:
                grouped.setdefault(finding.reason, []).append(finding.gate)
        reason = "; ".join(f"{', '.join(names)}: {said}" for said, names in grouped.items())
    overdue = decision is Decision.HOLD and evidence.boundary in _TRAFFIC_MOVES and evidence.held_s > ramp.deadline
    return Verdict(
        decision=decision,
        reason=reason,
        findings=tuple(findings),
        next_action=_AT_DEADLINE[ramp.at_deadline] if overdue else _NEXT[decision],
    )
