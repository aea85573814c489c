"""From pairs of answers to a report, and from the report and the plan's bounds to a verdict.

A bound is compared with the measured rate; the interval beside it says how much a suite of that size can tell. Ask for more
cases, not for a kinder bound, where the interval is wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from crossfade.judge.verdict import Decision, Finding, Verdict
from crossfade.parity.cases import Case
from crossfade.parity.intervals import Loss, Proportion, percent
from crossfade.parity.scorers import identical_text, is_correct
from crossfade.plan.model import ParityPlan

ROUNDING = 1e-9
"""Rates are compared as counts with this slack, so that a rate of exactly the bound never fails by a float's last digit."""


@dataclass(frozen=True)
class Pair:
    """What both engines said to one case."""

    case: Case
    source: str
    target: str


class Difference(BaseModel):
    """A case the two engines answered differently, for a person to look at."""

    model_config = ConfigDict(frozen=True)

    task: str
    prompt: str
    answer: str | None
    source: str
    target: str


class TaskReport(BaseModel):
    """The numbers of one task of the suite; `correct_*` count only cases with an answer."""

    model_config = ConfigDict(frozen=True)

    task: str
    identical: Proportion
    correct_source: Proportion
    correct_target: Proportion


class ParityReport(BaseModel):
    """Everything the parity verdict rests on; stored whole, so that the verdict can be judged again.

    `lost` are cases right on the source and wrong on the target, `gained` the reverse: all of them. `examples` are the
    first differing texts, right or not. `noise` is how often the source repeats its own text, where that was measured (H23).
    """

    model_config = ConfigDict(frozen=True)

    n: int
    identical: Proportion
    correct_source: Proportion
    correct_target: Proportion
    correct_lost: Loss
    lost: tuple[Difference, ...]
    gained: tuple[Difference, ...]
    examples: tuple[Difference, ...]
    tasks: tuple[TaskReport, ...]
    noise: Proportion | None = None


def compare(pairs: Sequence[Pair], *, examples: int = 10, noise: Proportion | None = None) -> ParityReport:
    """The report over `pairs`, with at most `examples` differing texts, in the suite's order."""
    lost = [pair for pair in pairs if _correct(pair, pair.source) and not _correct(pair, pair.target)]
    gained = [pair for pair in pairs if _correct(pair, pair.target) and not _correct(pair, pair.source)]
    different = [pair for pair in pairs if not identical_text(pair.source, pair.target)]
    whole = _task_report("all", pairs)
    return ParityReport(
        n=len(pairs),
        identical=whole.identical,
        correct_source=whole.correct_source,
        correct_target=whole.correct_target,
        correct_lost=Loss.of(len(lost), len(gained), whole.correct_source.n),
        lost=tuple(map(_difference, lost)),
        gained=tuple(map(_difference, gained)),
        examples=tuple(map(_difference, different[:examples])),
        tasks=tuple(
            _task_report(task, [pair for pair in pairs if pair.case.task == task]) for task in sorted({pair.case.task for pair in pairs})
        ),
        noise=noise,
    )


def measure_noise(first: Sequence[str], again: Sequence[str]) -> Proportion:
    """How often one engine repeats its own text: its answers to the suite, and to the same suite once more."""
    return Proportion.of(sum(map(identical_text, first, again)), min(len(first), len(again)))


def judge_parity(report: ParityReport, bounds: ParityPlan) -> Verdict:
    """Promote, or RollBack, which here means: stop, no traffic moves. Hold only where a bound has no case to judge it by."""
    findings = tuple(_findings(report, bounds))
    decisions = {finding.decision for finding in findings}
    broken = [finding for finding in findings if finding.decision != Decision.PROMOTE]
    if not broken:
        unjudged = "" if report.correct_source.n else "; correctness was not judged, because no case has an answer"
        reason = "; ".join(finding.reason for finding in findings) + unjudged
        return Verdict(decision=Decision.PROMOTE, reason=reason, findings=findings, next_action="rehearse the rollback")
    decision = Decision.ROLL_BACK if Decision.ROLL_BACK in decisions else Decision.HOLD
    if decision == Decision.ROLL_BACK:
        action = "no traffic moves: look at the lost cases, then choose a gentler quantize:, other weights, or another bound"
    else:
        action = "add cases with an answer to the suite, or leave the bound out"
    return Verdict(decision=decision, reason="; ".join(finding.reason for finding in broken), findings=findings, next_action=action)


def _findings(report: ParityReport, bounds: ParityPlan) -> list[Finding]:
    findings = [_identical_finding(report, bounds.identical_at_least)]
    if bounds.correct_at_least > 0 or report.correct_target.n:
        findings.append(_correct_finding(report, bounds.correct_at_least))
    if report.correct_lost.n:
        findings.append(_lost_finding(report, bounds.correct_lost_at_most))
    return findings


def _identical_finding(report: ParityReport, at_least: float) -> Finding:
    rate = report.identical
    reason = f"identical texts: {rate}, the plan asks for at least {percent(at_least)}"
    if report.noise:
        reason += f"; the source repeats its own text in {report.noise}"
        if report.noise.rate < at_least:
            reason += ", so no target can meet this bound: lower identical_at_least and judge by correctness"
    return Finding(gate="identical_at_least", decision=_decide(rate.n, _reaches(rate, at_least)), reason=reason, target=percent(rate.rate))


def _correct_finding(report: ParityReport, at_least: float) -> Finding:
    source, target = report.correct_source, report.correct_target
    return Finding(
        gate="correct_at_least",
        decision=_decide(target.n, _reaches(target, at_least)),
        reason=f"correct on the target: {target}, the plan asks for at least {percent(at_least)}",
        source=percent(source.rate),
        target=percent(target.rate),
    )


def _lost_finding(report: ParityReport, at_most: float) -> Finding:
    """Non-inferiority: the source's correct rate minus the target's, on the same cases, against the plan's margin."""
    loss = report.correct_lost
    within = loss.lost - loss.gained <= at_most * loss.n + ROUNDING
    return Finding(
        gate="correct_lost_at_most",
        decision=_decide(loss.n, within),
        reason=f"correctness lost: {loss}, the plan allows at most {percent(at_most)}",
        source=percent(report.correct_source.rate),
        target=percent(report.correct_target.rate),
    )


def _decide(n: int, within: bool) -> Decision:
    if n == 0:
        return Decision.HOLD
    return Decision.PROMOTE if within else Decision.ROLL_BACK


def _reaches(rate: Proportion, at_least: float) -> bool:
    return rate.count >= at_least * rate.n - ROUNDING


def _correct(pair: Pair, text: str) -> bool:
    return pair.case.answer is not None and is_correct(pair.case.answer, text)


def _task_report(task: str, pairs: Sequence[Pair]) -> TaskReport:
    answered = [pair for pair in pairs if pair.case.answer is not None]
    return TaskReport(
        task=task,
        identical=Proportion.of(sum(identical_text(pair.source, pair.target) for pair in pairs), len(pairs)),
        correct_source=Proportion.of(sum(_correct(pair, pair.source) for pair in answered), len(answered)),
        correct_target=Proportion.of(sum(_correct(pair, pair.target) for pair in answered), len(answered)),
    )


def _difference(pair: Pair) -> Difference:
    case = pair.case
    return Difference(task=case.task, prompt=case.prompt, answer=case.answer, source=pair.source, target=pair.target)
