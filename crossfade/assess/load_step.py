"""How much the target must carry before a user is moved to it, and whether it did.

Running out of memory, preemption storms and an engine that stops taking steps show only under concurrency (H29), so the target is
asked as much at once as the source is at its busiest, and some more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from crossfade.assess.load import Load as Planned
from crossfade.judge.evidence import Histogram, Interval
from crossfade.judge.verdict import Decision, Finding, Verdict
from crossfade.plan.model import GuardPlan, LoadStepPlan
from crossfade.plan.units import format_seconds


class Load(BaseModel):
    """So many requests at once, and where the number comes from."""

    model_config = ConfigDict(frozen=True)

    at_once: int
    why: str


class LoadShown(BaseModel):
    """What the target did under it. Times are seconds of whole requests.

    `first_s` is the first warm-up request, `warm_s` the last: what users are spared. `stalled_s` is the longest time in which requests
    ran and the engine took no step. `kv_tokens` is None where vLLM does not say how large its KV cache is. `planned_tokens` is what the
    plan's load needs of it at once, 0 where the plan names none: the step's own requests are rarely as long.
    """

    model_config = ConfigDict(frozen=True)

    load: Load
    first_s: float
    warm_s: float
    seconds: float
    requests: int
    failed: int
    failures: tuple[str, ...]
    median_s: float
    p95_s: float
    slow: int
    tokens_per_s: float
    tokens_per_request: float
    preemptions: int
    kv_tokens: int | None
    kv_share: float
    stalled_s: float
    planned_tokens: int = 0


def busiest(intervals: Sequence[Interval]) -> float:
    """Most requests the source had under way at once, by Little's law over each interval: arrivals a second times seconds each.

    A request counts with the upper bound of its bucket, so this is rather too much than too little.
    """
    return max((_seconds_spent(one.source.duration) / max(one.end_s - one.start_s, 1e-9) for one in intervals), default=0.0)


def load_for(plan: LoadStepPlan, peak: float | None, planned: Planned | None = None) -> Load:
    """The step's own number, else the larger of the measured `peak` and the `planned` load, times the plan's factor.

    At least two at once. A peak that was measured is what there is today, a planned one what must be carried tomorrow.
    """
    if plan.at_once is not None:
        return Load(at_once=_scaled(plan.at_once, plan.times), why=f"{plan.at_once} at once are planned, times {plan.times:g}")
    if planned is not None and planned.concurrency > max(peak or 0.0, 1.0):
        return Load(at_once=_scaled(planned.concurrency, plan.times), why=f"{planned.why()}, times {plan.times:g}")
    if not peak:
        return Load(at_once=2, why="no traffic was measured and the plan names no load above one: the least that can queue")
    return Load(at_once=_scaled(peak, plan.times), why=f"the source's busiest interval had {peak:.2g} at once, times {plan.times:g}")


def judge_load(shown: LoadShown, plan: LoadStepPlan, guard: GuardPlan) -> Verdict:
    """Promote only when the target answered, kept its memory, took steps, and was fast enough not to be rolled back at once."""
    findings = (_answered(shown, plan), _memory(shown), _preempted(shown, plan), _progress(shown, plan), _guard(shown, guard))
    bad = [finding for finding in findings if finding.decision is not Decision.PROMOTE]
    if bad:
        reason = f"under {shown.load.at_once} requests at once: {'; '.join(finding.reason for finding in bad)}"
        return Verdict(
            decision=Decision.ROLL_BACK,
            reason=reason,
            findings=findings,
            next_action="Give the target more room (target.vllm.kv_cache, a smaller scheme), or write a lower load_step, and begin again.",
        )
    reason = f"{shown.load.at_once} requests at once for {shown.seconds:.0f} s: {shown.requests} answers, {shown.failed} failed"
    return Verdict(decision=Decision.PROMOTE, reason=reason, findings=findings, next_action="go on")


def _answered(shown: LoadShown, plan: LoadStepPlan) -> Finding:
    share = shown.failed / shown.requests if shown.requests else 1.0
    good = shown.requests > 0 and share <= plan.errors_at_most
    said = f" ({shown.failures[0]})" if shown.failures else ""
    return _finding("answers", good, f"{shown.failed} of {shown.requests} requests failed{said}", f"at most {plan.errors_at_most:.1%}")


def _memory(shown: LoadShown) -> Finding:
    if shown.kv_tokens is None:
        return _finding("KV room", True, "this vLLM does not say how large its KV cache is", "")
    need = math.ceil(shown.load.at_once * shown.tokens_per_request)
    why = f"the KV cache holds {shown.kv_tokens:,} tokens, {shown.load.at_once} requests of {shown.tokens_per_request:.0f} need {need:,}"
    if shown.planned_tokens > need:
        need = shown.planned_tokens
        why = f"the KV cache holds {shown.kv_tokens:,} tokens, the plan's workload.load needs {need:,} at once"
    return _finding("KV room", shown.kv_tokens >= need, why, f"at least {need:,} tokens")


def _preempted(shown: LoadShown, plan: LoadStepPlan) -> Finding:
    good = shown.preemptions <= plan.preemptions_at_most * max(shown.requests, 1)
    why = f"{shown.preemptions} requests were thrown out of the KV cache and begun again, of {shown.requests}"
    return _finding("preemptions", good, why, f"at most {plan.preemptions_at_most:.1%}")


def _progress(shown: LoadShown, plan: LoadStepPlan) -> Finding:
    why = f"with requests under way the engine stood still for {shown.stalled_s:.1f} s"
    return _finding("progress", shown.stalled_s < plan.frozen_after, why, f"below {format_seconds(plan.frozen_after)}")


def _guard(shown: LoadShown, guard: GuardPlan) -> Finding:
    share, slow = shown.slow / shown.requests if shown.requests else 0.0, format_seconds(guard.slow_after / 1000)
    why = f"{share:.0%} of the answers took over {slow}, for which the guard would bring users back at once"
    return _finding("guard", share <= guard.slow_share_above, why, f"at most {guard.slow_share_above:.0%} over {slow}")


def _finding(name: str, good: bool, reason: str, limit: str) -> Finding:
    return Finding(gate=name, decision=Decision.PROMOTE if good else Decision.ROLL_BACK, reason=reason, source=limit)


def _seconds_spent(histogram: Histogram) -> float:
    finite = [bound for bound, _ in histogram if math.isfinite(bound)]
    spent, counted = 0.0, 0.0
    for bound_ms, so_far in histogram:
        spent += (so_far - counted) * (bound_ms if math.isfinite(bound_ms) else max(finite, default=0.0)) / 1000
        counted = so_far
    return spent


def _scaled(at_once: float, times: float) -> int:
    return max(2, math.ceil(round(at_once * times, 6)))


def longest_stall(looks: Sequence[tuple[float, float, bool]]) -> float:
    """Longest time without a step, of (seconds, steps so far, whether requests ran) in order. Idle time is no stall."""
    longest = since = 0.0
    for (before_s, before, _), (now_s, now, busy) in pairwise(looks):
        since = since + now_s - before_s if busy and now == before else 0.0
        longest = max(longest, since)
    return longest
