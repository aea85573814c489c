"""Stand in front of the source at share 0 and gather its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from crossfade.errors import GateFailed
from crossfade.judge.baseline import learn_baseline
from crossfade.judge.evidence import Blind, Interval
from crossfade.judge.rules import Rules
from crossfade.ramp.foresight import doubts
from crossfade.ramp.gatekeeper import count_since
from crossfade.ramp.moves import put_unused
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState
from crossfade.wiring import Bench, start_router
from tasks.artifacts import table
from tasks.progress import Progress
from tasks.stage import Report, stage


@stage("observe", milestone=Phase.OBSERVING, retries=5, timeout=timedelta(days=1))
def observe(bench: Bench, state: MigrationState) -> Report:
    """Start (or adopt) the router, give the model a route at share 0, keep the source warm, and count for the plan's `baseline`."""
    start_router(bench.home, bench.plan)
    bench.source.keep_warm(bench.model.ollama)
    began_s = _route_at_zero(bench, state)
    _wait(bench, began_s)
    baseline = learn_baseline(_counted(bench, began_s), asked_s=bench.plan.baseline, gates=bench.plan.gates, judge=bench.plan.judge)
    share = baseline.errors / baseline.requests if baseline.requests else 0.0
    rows = [
        ("requests", baseline.requests),
        ("errors", baseline.errors),
        ("error share", f"{share:.2%}"),
        ("seconds", f"{baseline.seconds:.0f}"),
        *((f"clustering of {gate}", f"{rho:.2g}") for gate, rho in baseline.rho.items()),
    ]
    summary = f"the source answered {baseline.requests} requests in {baseline.seconds:.0f} s, {baseline.errors} errors"
    rules = Rules(gates=dict(bench.plan.gates), ramp=bench.plan.ramp, judge=bench.plan.judge, baseline=baseline)
    said = (baseline.widened, *doubts(bench.desk.metrics, rules, route_name(bench.migration)))
    notes = "".join(f"\n\n{one}" for one in said if one)
    native = "\n\n`/api/*` stays on the source for now: the translating sidecar is not built yet. Only `/v1/*` is shared."
    return Report(summary, f"# Baseline of the source\n\n{table(('what', 'value'), rows)}{notes}{native}\n", baseline)


def _route_at_zero(bench: Bench, state: MigrationState) -> float:
    router, name = bench.desk.router, route_name(bench.migration)
    models = (bench.model.ollama, *bench.model.aliases)
    if state.attempt > 1 and name in router.latches():
        router.resume(name)  # a person began this attempt: that is the resume a latch waits for
    wanted = ModelRoute(name=name, models=models, shadow_bp=0)
    if wanted not in router.table().routes:
        put_unused(router, wanted)
    return bench.desk.clock.now_s()


def _wait(bench: Bench, began_s: float) -> None:
    clock, wanted_s = bench.desk.clock, bench.plan.baseline
    progress = Progress(bench.migration, "observe", clock)
    while (gone_s := clock.now_s() - began_s) < wanted_s:
        progress.at(gone_s, wanted_s, f"{gone_s:.0f} of {wanted_s:.0f} s of the source alone")
        clock.sleep(min(2.0, wanted_s - gone_s))


def _counted(bench: Bench, began_s: float) -> Sequence[Interval]:
    clock, give_up_s = bench.desk.clock, bench.desk.clock.now_s() + bench.plan.patience
    route, every_s = route_name(bench.migration), bench.plan.judge.interval
    while isinstance(found := count_since(bench.desk.metrics, route, since_s=began_s, now_s=clock.now_s(), every_s=every_s), Blind):
        if clock.now_s() > give_up_s:
            raise GateFailed(f"no baseline: {found.why}. Is the router scraped by {bench.plan.prometheus.url}?")
        clock.sleep(2.0)  # only the question is asked again, not the whole baseline
    return found
