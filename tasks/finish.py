"""How a migration ends in the Prefect UI: its story, or the cause of its failure."""

from __future__ import annotations

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Failed

from crossfade.errors import CrossfadeError, IllegalMove, StaleWriter, Superseded, UserError
from crossfade.plan.units import format_share
from crossfade.prefect_api import REFUSED
from crossfade.ramp.report import tell
from crossfade.ramp.rollback import fail
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.artifacts import publish


def failed(error: CrossfadeError, message: str) -> State[str]:
    """The state a run ends with; a user's mistake is called `Refused`, so that the command line can tell it from a failure."""
    return Failed(message=message, name=REFUSED if isinstance(error, UserError) else "Failed")


@task(name="report", persist_result=False)
def report(migration: str) -> str:
    """Publish the migration's story; returns its last line."""
    bench = open_bench(migration)
    state = bench.state()
    publish(migration, "report", tell(state, bench.desk.journal.entries(migration), bench.plan.note), f"{state.phase}: {state.because}")
    return f"{migration} is {state.phase}: {state.because}"


@task(name="end in failure", persist_result=False)
def end_in_failure(attempt: Attempt, error: Exception) -> str:
    """Journal the failure when no user was moved, publish the story, and return the message the flow run ends with.

    A run that lost its migration to another one, or to a rollback, ends alone: what the other does is not its business.
    """
    why = str(error) if isinstance(error, CrossfadeError) else f"unexpected {type(error).__name__}: {error}"
    bench = open_bench(attempt.migration)
    state = bench.state()
    if isinstance(error, (Superseded, IllegalMove, StaleWriter)) or state.attempt != attempt.number:
        return why
    state = fail(bench.desk, attempt.migration, why)
    publish(
        attempt.migration, "report", tell(state, bench.desk.journal.entries(attempt.migration), bench.plan.note), f"{state.phase}: {why}"
    )
    if state.phase is Phase.FAILED:
        return f"{why} No user was moved; the source serves everything."
    if state.share_bp:
        where = f"{format_share(state.share_bp)} of the requests stay on the target, and the guard watches them"
        return f"{why} {where}. Go on with 'crossfade migrate', or go back with 'crossfade rollback {attempt.migration}'."
    return why
