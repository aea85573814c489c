"""The ramp: one short run a tick, started by the schedule that `migrate` made; or ticks in a row, driven inline."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from crossfade.errors import CrossfadeError, GateFailed, StaleWriter, Superseded, TemporaryError
from crossfade.ports import SystemClock
from crossfade.rollout.phases import Phase, reached
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.cutover import cut_over
from tasks.finish import failed, report
from tasks.ramp import tick
from tasks.schedule import lateness_s, stop_schedule


@flow(name="ramp", flow_run_name="ramp {migration}", log_prints=False, persist_result=False)
def ramp(migration: str, attempt: int) -> State[str]:
    """One tick: judge what is new, move at most one step. A run that waited longer than one interval for its worker does nothing."""
    late_s, every_s = lateness_s(), open_bench(migration).plan.ramp.every
    if late_s > every_s:
        return Completed(name="Skipped", message=f"skipped: late by {late_s:.0f} s, a tick is due every {every_s:.0f} s")
    try:
        ticked = tick(Attempt(migration, attempt))
        if ticked.did == "cut_over":
            cut_over(Attempt(migration, attempt))
        if ticked.state.ended:
            stop_schedule(migration)
            report(migration)
    except Superseded as over:
        stop_schedule(migration)
        return failed(over, str(over))
    except StaleWriter as busy:
        return Completed(name="Skipped", message=f"skipped: {busy}")
    except CrossfadeError as error:
        return failed(error, str(error))
    return Completed(message=f"{ticked.did}: {ticked.reason}")


def ramp_inline(attempt: Attempt) -> None:
    """Tick every `ramp.every` until the soak has ended; raises GateFailed when the ramp was rolled back."""
    _tick_until(attempt, Phase.CUT_OVER)
    cut_over(attempt)
    _tick_until(attempt, Phase.FINISHED)


def _tick_until(attempt: Attempt, milestone: Phase) -> None:
    clock, every_s = SystemClock(), open_bench(attempt.migration).plan.ramp.every
    while True:
        due_s = clock.now_s() + every_s
        try:
            ticked = tick(attempt)
        except (TemporaryError, StaleWriter) as error:  # users are where they are; the next tick looks again
            get_run_logger().warning("this tick moved nothing: %s", error)
        else:
            if reached(ticked.state.phase, milestone):
                return
            if ticked.did in ("rolled_back", "nothing"):
                raise GateFailed(f"{attempt.migration} was rolled back: {ticked.reason}. The source serves everything.")
        clock.sleep(max(0.0, due_s - clock.now_s()))
