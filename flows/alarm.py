"""Somebody should know that an automation's action failed: a rollback run that never started would otherwise be silent."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from tasks.notify import notify
from tasks.tell_whom import blocks_of_all_plans


@flow(name="alarm", log_prints=False, persist_result=False)
def alarm(automation: str, reason: str = "") -> State[str]:
    """Tell every notification block of every plan under way, and end as failed, so that the run stands out in the list of runs."""
    said = f"the automation {automation} could not do what it is for: {reason or 'see the Prefect server log'}"
    body = (
        f"{said}. If it is the rollback's, users may still be on a failing target: run 'crossfade status', then 'crossfade rollback NAME'."
    )
    told = notify(blocks_of_all_plans(), "Crossfade: an automation failed", body)
    return Failed(message=f"{said}; told: {', '.join(told) or 'nobody, no plan under way names a notification block'}")
