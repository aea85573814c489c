"""Warm the target up, then ask it more at once than the source ever was, before the first user is moved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from statistics import median

from crossfade.assess.layout import planned_load
from crossfade.assess.load_step import Load, LoadShown, busiest, judge_load, load_for, longest_stall
from crossfade.errors import GateFailed, PlanInvalid
from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Blind
from crossfade.judge.verdict import Decision
from crossfade.parity.cases import load_suite
from crossfade.ramp.gatekeeper import count_since
from crossfade.ramp.logbook import Because
from crossfade.rollout.names import rehearsal_model, route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.load import Ridden, ride
from crossfade.wiring import Bench, target_of
from tasks.artifacts import table
from tasks.progress import Progress
from tasks.stage import Report, stage

WARM_UP_PROMPTS = 8
_TIMEOUT_S = 120.0
_WITHOUT_SUITE = ("What is 4+6?", "Write a short story about a lighthouse.", "List ten cities and one fact about each of them.")


@stage("load", milestone=Phase.PROVEN, moves=False, retries=1, retry_delay_s=10, timeout=timedelta(hours=1))
def prove_load(bench: Bench, state: MigrationState) -> Report:
    """Warm-up so that no user pays for compilation, then the load step: memory and preemptions show only under concurrency."""
    plan = bench.plan.load_step
    if plan.skip:
        why = f"the load step was skipped, because the plan says: {plan.skip}"
        return Report(why, f"# Load before the first user\n\n{why}\n", Because(why=why))
    load = load_for(plan, None if plan.at_once else _peak(bench, state), planned_load(bench.plan.workload.load))
    with closing(target_of(bench.plan, timeout_s=_TIMEOUT_S)) as target:
        shown = _shown(bench, target, load)
    if planned := planned_load(bench.plan.workload.load):
        shown = shown.model_copy(update={"planned_tokens": planned.needed_tokens})
    verdict = judge_load(shown, plan, bench.plan.guard)
    markdown = _markdown(shown, verdict.reason, [(f.gate, str(f.decision), f.reason, f.source) for f in verdict.findings])
    if verdict.decision is not Decision.PROMOTE:
        refusal = GateFailed(f"{bench.migration}: {verdict.reason}. {verdict.next_action} No user was moved.")
        refusal.add_note(markdown)
        raise refusal
    spared = f"first request {shown.first_s:.2f} s, warm {shown.warm_s:.2f} s"
    summary = f"{verdict.reason}, p95 {shown.p95_s:.2f} s, {shown.tokens_per_s:.0f} tokens/s; {spared}"
    return Report(summary, markdown, shown)


def _shown(bench: Bench, target: VllmTarget, load: Load) -> LoadShown:
    plan, model, prompts = bench.plan.load_step, rehearsal_model(bench.migration), _prompts(bench)
    by_length = sorted(prompts, key=len)
    spread = [by_length[round(at * (len(by_length) - 1) / (WARM_UP_PROMPTS - 1))] for at in range(WARM_UP_PROMPTS)]
    warm = [target.complete(model, prompt, max_tokens=plan.max_tokens).seconds for prompt in spread]
    progress = Progress(bench.migration, "load", bench.desk.clock)
    ridden = ride(
        target,
        model,
        prompts,
        at_once=load.at_once,
        hold_s=plan.hold,
        max_tokens=plan.max_tokens,
        on_progress=lambda gone_s: progress.at(gone_s, plan.hold, f"{load.at_once} requests at once for {gone_s:.0f} of {plan.hold:.0f} s"),
    )
    return _counted(load, ridden, first_s=warm[0], warm_s=warm[-1], slow_s=bench.plan.guard.slow_after / 1000)


def _counted(load: Load, ridden: Ridden, *, first_s: float, warm_s: float, slow_s: float) -> LoadShown:
    answers, looks = sorted(ridden.answers_s), [look.readings for look in ridden.looks]
    first, last = (looks[0], looks[-1]) if looks else (None, None)
    tokens = last.tokens - first.tokens if first and last else 0.0
    finished = last.finished - first.finished if first and last else 0.0
    return LoadShown(
        load=load,
        first_s=first_s,
        warm_s=warm_s,
        seconds=ridden.seconds,
        requests=len(answers) + ridden.failed,
        failed=ridden.failed,
        failures=ridden.failures,
        median_s=median(answers or [0.0]),
        p95_s=answers[min(len(answers) - 1, int(0.95 * len(answers)))] if answers else 0.0,
        slow=sum(one > slow_s for one in answers),
        tokens_per_s=tokens / ridden.seconds if ridden.seconds else 0.0,
        tokens_per_request=tokens / finished if finished else 0.0,
        preemptions=round(last.preemptions - first.preemptions) if first and last else 0,
        kv_tokens=last.kv_tokens if last else None,
        kv_share=max((look.kv_share for look in looks), default=0.0),
        stalled_s=longest_stall([(look.at_s, look.readings.steps, look.readings.busy) for look in ridden.looks]),
    )


def _peak(bench: Bench, state: MigrationState) -> float | None:
    """Most requests at once while the source was observed; None when that cannot be known any more."""
    observed = bench.desk.outcome(state, "observe", Baseline)
    ended = bench.desk.journal.entries(state.name, kind="outcome", subject="observe", attempt=state.attempt, newest=1)[0].at_s
    route, every_s = route_name(bench.migration), bench.plan.judge.interval
    since_s = ended - max(observed.seconds, observed.asked_s) - every_s
    found = count_since(bench.desk.metrics, route, since_s=since_s, now_s=bench.desk.clock.now_s(), every_s=every_s)
    return None if isinstance(found, Blind) else busiest(found)


def _prompts(bench: Bench) -> Sequence[str]:
    suite = bench.plan.parity.suite
    if suite is None:
        return _WITHOUT_SUITE
    try:
        return [case.prompt for case in load_suite(suite.read_text(encoding="utf-8"), str(suite))]
    except (OSError, UnicodeDecodeError) as error:
        raise PlanInvalid(f"{suite}: cannot read the parity suite: {error}. Check parity.suite in the plan.") from None


def _markdown(shown: LoadShown, reason: str, findings: Sequence[tuple[str, str, str, str]]) -> str:
    room = f"{shown.kv_tokens:,} tokens" if shown.kv_tokens else "not said"
    rows = [
        ("requests at once", f"{shown.load.at_once}: {shown.load.why}"),
        ("first request, warm request", f"{shown.first_s:.2f} s, {shown.warm_s:.2f} s"),
        ("answers", f"{shown.requests - shown.failed} in {shown.seconds:.0f} s, {shown.failed} failed"),
        ("median, p95", f"{shown.median_s:.2f} s, {shown.p95_s:.2f} s"),
        ("tokens a second, a request", f"{shown.tokens_per_s:.0f}, {shown.tokens_per_request:.0f}"),
        ("KV cache, most in use", f"{room}, {shown.kv_share:.0%}"),
    ]
    return (
        f"# Load before the first user\n\n{reason}\n\n{table(('what', 'value'), rows)}\n\n"
        f"{table(('what', 'verdict', 'seen', 'limit'), findings)}\n"
    )
