"""One run that ticks every migration that is due: for so many of them that a run each would be too much for the machine."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from crossfade.errors import CrossfadeError
from crossfade.sweep import Swept, summary
from tasks.cutover import cut_over
from tasks.finish import failed, report
from tasks.schedule import stop_schedule
from tasks.sweep import tick_due


@flow(name="sweep", log_prints=False, persist_result=False)
def sweep(within_s: int = 45) -> State[str]:
    """Ticks as `ramp` does, for all. No tick is begun after `within_s` seconds: what is left comes first in the next run.

    A run that starts late does no harm, for it asks each migration whether it is due. One that could not be ticked fails the run
    after all others had their turn, so that it stands out.
    """
    try:
        done = tick_due(within_s)
    except CrossfadeError as error:
        return failed(error, str(error))
    wrong = [f"{one.attempt}: {one.reason}" for one in done.that("failed")]
    wrong += [problem for one in done.swept if (problem := _followed_up(one))]
    if wrong:
        return Failed(message=f"{summary(done)}. {len(wrong)} need a person: {'; '.join(wrong[:3])}")
    return Completed(message=summary(done))


def _followed_up(one: Swept) -> str:
    """What a tick that changed more than a share asks for; returns what went wrong there, for the others must have theirs."""
    try:
        if one.became == "cut_over":
            cut_over(one.attempt)
        if one.ended:
            stop_schedule(one.attempt.migration)
            report(one.attempt.migration)
    except CrossfadeError as error:
        return f"{one.attempt}: {error}"
    return ""
