"""Whether quantized weights still are the model they were made from: the numbers, and what is made of them.

Both models are shown the same tokens, the unquantized one's own greedy answers, so that one early difference does not count again in
all that follows it. The unquantized one is measured in the same way: what it disagrees with itself about is noise of the engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from crossfade.judge.verdict import Decision, Finding, Verdict
from crossfade.parity.intervals import Proportion, percent
from crossfade.plan.model import DriftPlan


class Answer(BaseModel):
    """One prompt as both models answered it. `*_logprobs` are of the same tokens; None where an engine gave no number.

    `*_first` says of each token whether it was the model's own first choice.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str
    base_text: str
    text: str
    base_logprobs: tuple[float | None, ...]
    logprobs: tuple[float | None, ...]
    base_first: tuple[bool, ...]
    first: tuple[bool, ...]


class DriftReport(BaseModel):
    """The measurement. `broken` counts tokens to which the quantized model gave no finite probability.

    `agreement` is of tokens, `identical` of whole greedy answers as each model really wrote them; `noise` is the agreement of the
    unquantized model with itself.
    """

    model_config = ConfigDict(frozen=True)

    prompts: int
    tokens: int
    mean_drift: float
    max_drift: float
    broken: int
    agreement: Proportion
    identical: Proportion
    noise: Proportion
    engine: str
    suite: str
    examples: tuple[tuple[str, str, str], ...] = ()


def measure_drift(answers: Sequence[Answer], *, engine: str, suite: str, examples: int = 5) -> DriftReport:
    """The numbers of `answers`; without a token the means are 0 and nothing can be concluded."""
    pairs = [pair for answer in answers for pair in zip(answer.base_logprobs, answer.logprobs, strict=True)]
    known = [abs(left - right) for left, right in pairs if left is not None and right is not None]
    first = [own for answer in answers for own in answer.first]
    base_first = [own for answer in answers for own in answer.base_first]
    different = [(answer.prompt, answer.base_text, answer.text) for answer in answers if answer.base_text != answer.text]
    return DriftReport(
        prompts=len(answers),
        tokens=len(pairs),
        mean_drift=math.fsum(known) / len(known) if known else 0.0,
        max_drift=max(known, default=0.0),
        broken=sum(right is None for _, right in pairs),
        agreement=Proportion.of(sum(first), len(first)),
        identical=Proportion.of(len(answers) - len(different), len(answers)),
        noise=Proportion.of(sum(base_first), len(base_first)),
        engine=engine,
        suite=suite,
        examples=tuple(different[:examples]),
    )


def judge_drift(report: DriftReport, bounds: DriftPlan) -> Verdict:
    """Promote, or RollBack, which here means: these weights are not served. Hold when nothing was measured."""
    findings = (_drift(report, bounds), _agreement(report, bounds))
    bad = [finding for finding in findings if finding.decision is not Decision.PROMOTE]
    if not bad:
        reason = "; ".join(finding.reason for finding in findings)
        return Verdict(decision=Decision.PROMOTE, reason=reason, findings=findings, next_action="serve them")
    decision = Decision.ROLL_BACK if any(finding.decision is Decision.ROLL_BACK for finding in bad) else Decision.HOLD
    action = "choose a gentler quantize:, calibrate with your own prompts, or allow more in drift: of the plan"
    return Verdict(decision=decision, reason="; ".join(finding.reason for finding in bad), findings=findings, next_action=action)


def _drift(report: DriftReport, bounds: DriftPlan) -> Finding:
    limit = bounds.logprob_at_most
    good = report.broken == 0 and report.mean_drift <= limit
    broken = f", and {report.broken} tokens got no probability at all" if report.broken else ""
    return Finding(
        gate="drift.logprob_at_most",
        decision=_decided(report, good=good),
        reason=f"mean log-probability drift {report.mean_drift:.4f} over {report.tokens} tokens{broken}, the plan allows {limit:g}",
        target=f"{report.mean_drift:.4f}",
    )


def _agreement(report: DriftReport, bounds: DriftPlan) -> Finding:
    limit = bounds.agreement_at_least
    reason = f"greedy agreement {report.agreement}, the plan asks for at least {percent(limit)}"
    if report.noise.rate < limit:
        reason += f"; the unquantized model agrees with itself in {report.noise}, so that no weights can meet this bound"
    good = report.agreement.rate >= limit - 1e-9
    return Finding(
        gate="drift.agreement_at_least", decision=_decided(report, good=good), reason=reason, target=percent(report.agreement.rate)
    )


def _decided(report: DriftReport, *, good: bool) -> Decision:
    if report.tokens == 0:
        return Decision.HOLD
    return Decision.PROMOTE if good else Decision.ROLL_BACK
