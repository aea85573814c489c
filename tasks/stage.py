"""The form all stages share: skip what is done, do one thing, say what was found, and move the migration on.

A stage that fails for good also leaves an artifact that names the cause. A temporary error is raised, and Prefect retries it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from prefect import get_run_logger
from prefect.context import TaskRunContext
from pydantic import BaseModel

from crossfade.errors import CrossfadeError, StaleWriter, Superseded, TemporaryError
from crossfade.plan.gates import Boundary
from crossfade.ramp.gatekeeper import pass_boundary
from crossfade.ramp.logbook import Because
from crossfade.rollout.phases import Phase, reached
from crossfade.rollout.state import Attempt, MigrationState
from crossfade.wiring import Bench, open_bench
from tasks.artifacts import publish
from tasks.quiet import quiet_task


@dataclass(frozen=True)
class Report:
    """What a stage found and decided. `summary` is one line; `result` is what later stages read back from the journal."""

    summary: str
    markdown: str
    result: BaseModel


_CAS_TRIES = 5

LONGEST_WAIT_S = 300.0
"""What a stage waits at most because somebody asked it to, in one try."""

Stage = Callable[[Bench, MigrationState], Report]


def stage(
    name: str,
    *,
    milestone: Phase,
    gates: Boundary | None = None,
    retries: int = 3,
    retry_delay_s: float = 3.0,
    timeout: timedelta = timedelta(hours=1),
    moves: bool = True,
) -> Callable[[Stage], Callable[[Attempt], str]]:
    """Make a task of a stage's body. It takes the attempt it works for and returns the stage's summary; raises what the body raises.

    `gates` names the boundary whose gates must promote first, within the plan's `patience`. A stage that does not `move` the
    migration is done anew until `milestone` is reached by the one after it. A hub or engine that asks for time is given it, up to
    `LONGEST_WAIT_S`, before the retry.
    """

    def wrap(body: Stage) -> Callable[[Attempt], str]:
        def run(attempt: Attempt) -> str:
            bench = open_bench(attempt.migration)
            state = still_on(bench, attempt)
            if reached(state.phase, milestone):
                return f"already {milestone}"
            try:
                if gates:
                    pass_boundary(bench.desk, state, gates, patience_s=bench.plan.patience)
                report = body(bench, state)
            except CrossfadeError as error:
                _publish_failure(attempt.migration, name, error)
                if isinstance(error, TemporaryError) and _tried() <= retries:
                    bench.desk.clock.sleep(max(0.0, min(error.delay_s, LONGEST_WAIT_S) - retry_delay_s))
                raise
            return _finish(bench, attempt, name, milestone if moves else None, report)

        run.__name__, run.__doc__ = name, body.__doc__
        return quiet_task(name + " {attempt}", retries=retries, retry_delay_s=retry_delay_s, timeout=timeout)(run)

    return wrap


def still_on(bench: Bench, attempt: Attempt) -> MigrationState:
    """The state, if this attempt is still the one under way; raises Superseded otherwise, so that an old run does nothing more."""
    state = bench.state()
    if state.attempt != attempt.number or state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED):
        raise Superseded(f"{attempt} is over: the migration is {state.phase} in attempt {state.attempt} ({state.because}).")
    return state


def move_on(bench: Bench, attempt: Attempt, milestone: Phase, because: str) -> MigrationState:
    """Enter the milestone, also when somebody pauses just then: hours of work are no price for an order.

    Nothing happens where it was entered meanwhile. Raises as `still_on`, and StaleWriter when the journal keeps moving.
    """
    for _ in range(_CAS_TRIES):
        state = still_on(bench, attempt)
        if reached(state.phase, milestone):
            return state
        with suppress(StaleWriter):
            return bench.desk.enter(state, milestone, because)
    raise StaleWriter(f"{attempt} reached {milestone}, but the journal kept moving under it. 'crossfade migrate' goes on from there.")


def _publish_failure(migration: str, name: str, error: CrossfadeError) -> None:
    """Also for errors that will be retried: when the retries are used up, the last one is what a person needs to read."""
    again = "\n\nThis is worth a retry." if isinstance(error, TemporaryError) else ""
    evidence = "\n\n".join(getattr(error, "__notes__", ()))  # what a stage had found when it refused
    publish(migration, name, f"# {name} failed\n\n{error}{again}\n\n{evidence}\n", f"{name} failed: {error}")


def _tried() -> int:
    """How often this task run has been tried, this time included."""
    context = TaskRunContext.get()
    return context.task_run.run_count if context else 1


def _finish(bench: Bench, attempt: Attempt, name: str, milestone: Phase | None, report: Report) -> str:
    state = still_on(bench, attempt)
    bench.desk.write(state, "outcome", name, report.result)
    if milestone:
        move_on(bench, attempt, milestone, report.summary)
    else:
        bench.desk.write(state, "note", name, Because(why=report.summary))
    publish(bench.migration, name, report.markdown, report.summary)
    get_run_logger().info("%s: %s", name, report.summary)
    return report.summary
