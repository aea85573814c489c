"""Bring a model back to the source: started by the breach event, by a person, or by another flow."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from crossfade.errors import CrossfadeError
from tasks.finish import failed
from tasks.rollback import call_for_help, drain, roll_back, tell
from tasks.schedule import stop_schedule


@flow(name="rollback", flow_run_name="rollback {migration}", log_prints=False)
def rollback(migration: str, why: str = "asked for in the Prefect UI", event_id: str = "", attempt: int = 0) -> State[str]:
    """The source has everything, the router's dump shows it, the journal knows it, people are told. Safe to run any number of times."""
    by = f"rollback deployment (event {event_id})" if event_id else "rollback deployment"
    try:
        verified = roll_back(migration, why, by, attempt)
    except CrossfadeError as error:
        call_for_help(migration, error)
        return failed(error, str(error))
    if verified.startswith("nothing to do"):
        return Completed(message=verified)
    try:
        tell(migration, why, by, drain(migration), stop_schedule(migration))
    except CrossfadeError as error:
        return failed(error, f"{verified}. What should have followed did not: {error}")
    return Completed(message=verified)
