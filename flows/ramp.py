"""Ticks in a row, until the migration has gone over, come back, or soaked."""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.errors import GateFailed, StaleWriter, TemporaryError
from crossfade.ports import SystemClock
from crossfade.rollout.phases import Phase, reached
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.ramp import tick


def ramp(attempt: Attempt) -> None:
    """Tick every `ramp.every` until all users are on the target; raises GateFailed when the ramp was rolled back."""
    _tick_until(attempt, Phase.CUT_OVER)


def soak(attempt: Attempt) -> None:
    """Go on ticking under the same gates until the soak has ended; raises GateFailed when it was rolled back."""
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
