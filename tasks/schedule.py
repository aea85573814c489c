"""The ramp's own deployment: made through Prefect's API when a migration is ready, so that ticks survive every restart of ours."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from crossfade.errors import UserError
from crossfade.plan.units import format_seconds
from crossfade.prefect_api import PrefectApi
from crossfade.rollout.names import ramp_deployment
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.quiet import quiet_task
from tasks.stage import still_on

SWEEP = "sweep/sweep"
"""The deployment that ticks all migrations in one run, where a person has given it a schedule."""


@quiet_task("schedule the ramp of {attempt}", retries=5)
def schedule_ramp(attempt: Attempt) -> str:
    """Create or renew the deployment whose schedule ticks this attempt every `ramp.every`; returns what goes on from here.

    Where `sweep` is scheduled at least as often, it ticks this one too, and the schedule of its own is made but left off.
    """
    bench = open_bench(attempt.migration)
    still_on(bench, attempt)
    name, every_s = ramp_deployment(attempt.migration), bench.plan.ramp.every
    swept_s = _api().interval_s(SWEEP)
    _api().schedule(
        name,
        like="reconcile/reconcile",
        entrypoint="flows/ramp.py:ramp",
        every_s=every_s,
        parameters={"migration": attempt.migration, "attempt": attempt.number},
        active=swept_s > every_s,
    )
    line = f"{attempt}: the deployment {name} goes on, a tick every {format_seconds(every_s)}"
    if swept_s <= every_s:
        line = f"{attempt}: {SWEEP} goes on, every {format_seconds(swept_s)}; the schedule of {name} is there, and off"
    get_run_logger().info(line)
    return line


@quiet_task("stop the schedule of {migration}", retries=5)
def stop_schedule(migration: str) -> str:
    """No more ticks of a migration that has ended, or was rolled back. Nothing to do for one that was driven inline."""
    name = ramp_deployment(migration)
    try:
        _api().pause_deployment(name)
    except UserError:
        return "it had no schedule"
    return f"the schedule of {name} is paused"


def lateness_s() -> float:
    """How long ago this run was to start; 0 for one that was started by hand."""
    scheduled = flow_run.scheduled_start_time
    return max(0.0, (datetime.now(UTC) - scheduled).total_seconds()) if scheduled else 0.0


def _api() -> PrefectApi:
    return PrefectApi(PREFECT_API_URL.value() or "")
