"""The verdict of the first stage: the decision framework and the hazards together."""

from __future__ import annotations

from crossfade.assess.framework import Choice, Outcome, choose, gib
from crossfade.assess.hazards import Finding, Severity, find_hazards
from crossfade.assess.inventory import Demand, MachineFacts, SourceFacts, TargetFacts
from crossfade.judge import verdict as judged
from crossfade.judge.verdict import Decision, Verdict
from crossfade.plan.model import Workload

_DECISION_OF: dict[Outcome, Decision] = {"migrate": Decision.PROMOTE, "ask": Decision.HOLD, "stay": Decision.ROLL_BACK}
_DECISION_OF_SEVERITY: dict[Severity, Decision] = {"stop": Decision.ROLL_BACK, "warn": Decision.PROMOTE, "note": Decision.PROMOTE}


def assess(
    source: SourceFacts,
    target: TargetFacts,
    workload: Workload,
    *,
    machine: MachineFacts | None = None,
    demand: Demand | None = None,
) -> Verdict:
    """Promote: move it. Hold: a person must answer first. RollBack, which here means: do not move it; nothing was touched.

    Warnings and notes do not stop; they stand among the findings with what to do about them.
    """
    choice = choose(source, target, workload, machine or MachineFacts(), demand or Demand())
    hazards = find_hazards(source, target)
    findings = (_sides(source, target), _framework(choice), *map(_hazard, hazards))
    stops = [finding for finding in hazards if finding.severity == "stop"]
    if stops:
        reason = "; ".join(f"{finding.hazard}: {finding.summary}" for finding in stops)
        return Verdict(decision=Decision.ROLL_BACK, reason=reason, findings=findings, next_action="; ".join(f.resolution for f in stops))
    return Verdict(
        decision=_DECISION_OF[choice.outcome],
        reason="; ".join(choice.reasons),
        findings=findings,
        next_action=_next_action(choice, hazards),
    )


def _next_action(choice: Choice, hazards: tuple[Finding, ...]) -> str:
    if choice.outcome == "stay":
        return "leave this model on the source"
    if choice.outcome == "ask":
        return "say in the plan's workload: whether there are external users or an SLA, or measure how many requests come at once"
    warnings = sum(finding.severity == "warn" for finding in hazards)
    return "go on" if not warnings else f"go on, and read {warnings} warning{'s' if warnings > 1 else ''}"


def _sides(source: SourceFacts, target: TargetFacts) -> judged.Finding:
    size = f" {source.parameter_size}" if source.parameter_size else ""
    quantization = f" {source.quantization}" if source.quantization else ""
    return judged.Finding(
        gate="inventory",
        decision=Decision.PROMOTE,
        reason=f"{source.engine} serves {source.model}, {target.repo} is at commit {target.commit[:12]}",
        source=f"{source.model}{size}{quantization}, digest {source.digest[:12]}, context {source.context or 'unknown'}",
        target=f"{target.files} files, {gib(target.total_bytes)}, context {target.context or 'unknown'}",
    )


def _framework(choice: Choice) -> judged.Finding:
    return judged.Finding(gate="framework", decision=_DECISION_OF[choice.outcome], reason=f"{choice.outcome}: {'; '.join(choice.reasons)}")


def _hazard(finding: Finding) -> judged.Finding:
    return judged.Finding(
        gate=finding.hazard,
        decision=_DECISION_OF_SEVERITY[finding.severity],
        reason=f"{finding.severity}: {finding.summary}; {finding.resolution}",
    )
