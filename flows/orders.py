"""Orders to a ramp that one can give in the Prefect UI: each is a deployment with a form of three lines."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from crossfade.errors import CrossfadeError
from tasks.finish import failed, report
from tasks.orders import Do, order
from tasks.schedule import stop_schedule

_UI = "somebody in the Prefect UI"


@flow(name="pause", flow_run_name="pause {migration}", log_prints=False, persist_result=False)
def pause(migration: str, why: str, by: str = _UI) -> State[str]:
    """Nothing rises until `resume`; judge and guard go on and roll back."""
    return _carried_out("pause", migration, by, why)


@flow(name="resume", flow_run_name="resume {migration}", log_prints=False, persist_result=False)
def resume(migration: str, why: str, by: str = _UI) -> State[str]:
    """Go on after a pause."""
    return _carried_out("resume", migration, by, why)


@flow(name="abort", flow_run_name="abort {migration}", log_prints=False, persist_result=False)
def abort(migration: str, why: str, by: str = _UI) -> State[str]:
    """Everything back to the source, latched; no more ticks."""
    ended = _carried_out("abort", migration, by, why)
    if ended.is_completed():
        try:
            stop_schedule(migration)
            report(migration)
        except CrossfadeError as error:
            return failed(error, f"{ended.message}. What should have followed did not: {error}")
    return ended


@flow(name="approve", flow_run_name="{answer} {migration}", log_prints=False, persist_result=False)
def approve(migration: str, why: str, answer: Literal["reject", "approve"] = "reject", by: str = _UI) -> State[str]:
    """Answer a step that the plan's `approve_before` names. No answer is no."""
    return _carried_out(answer, migration, by, why)


def _carried_out(do: Do, migration: str, by: str, why: str) -> State[str]:
    try:
        return Completed(message=order(do, migration, by, why))
    except CrossfadeError as error:
        return failed(error, str(error))
