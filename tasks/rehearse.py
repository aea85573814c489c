"""Rehearse the rollback: break a hidden route and let the guard bring it back."""

from __future__ import annotations

from crossfade.errors import GateFailed
from crossfade.guard.heartbeat import guard_alive
from crossfade.ramp.rehearsal import rehearse as rehearse_rollback
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.wiring import Bench, target_of
from tasks.artifacts import table
from tasks.stage import Report, stage


@stage("rehearse", milestone=Phase.REHEARSED, gates="rehearse", retries=1)
def rehearse(bench: Bench, state: MigrationState) -> Report:
    """Real requests on a hidden model name, an injected breach, and the guard's way back, timed. Only then may a user go over."""
    guard = guard_alive(bench.home, bench.desk.clock.now_s())
    if not guard.alive:
        raise GateFailed(f"{guard.why} Without a guard nobody would be brought back: start 'crossfade guard' and begin again.")
    through_router = target_of(bench.plan, timeout_s=30, url=f"http://{bench.plan.router.listen}")
    shown = rehearse_rollback(bench.desk, state, lambda model: through_router.complete(model, "What is 4+6?", max_tokens=16).text)
    rows = [
        ("real requests answered by the target", shown.answered_by_target),
        ("first failing request -> source at 100 %", f"{shown.seconds:.1f} s"),
        ("brought back by", shown.latch_by),
        ("because", shown.latch_why),
    ]
    summary = f"an injected breach was rolled back by {shown.latch_by} in {shown.seconds:.1f} s"
    return Report(summary, f"# Rollback rehearsed\n\n{table(('what', 'value'), rows)}\n", shown)
