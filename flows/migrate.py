"""A whole migration: everything up to a rehearsed rollback, then its ramp is put on a schedule of its own."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from crossfade.errors import CrossfadeError
from flows.ramp import ramp_inline
from tasks.assess import assess
from tasks.begin import begin, only_run_of
from tasks.download import download
from tasks.finish import end_in_failure, failed, report
from tasks.foresee import foresee
from tasks.load import prove_load
from tasks.observe import observe
from tasks.parity import prove_parity
from tasks.quantize import quantize
from tasks.rehearse import rehearse
from tasks.schedule import schedule_ramp
from tasks.serve import serve


@flow(name="migrate", log_prints=False, persist_result=False)
def migrate(plan: str, inline: bool = False) -> State[str]:
    """Move the plan's model to vLLM. `plan` is a file name on the worker's machine, or pasted YAML.

    The ramp goes on in short scheduled runs after this one has ended. `inline` ticks in this very run instead, until the soak has ended.
    """
    try:
        attempt = begin(plan)
    except CrossfadeError as error:
        return failed(error, str(error))
    try:
        with only_run_of(attempt):
            assess(attempt)
            observe(attempt)
            download(attempt)
            quantize(attempt)
            serve(attempt)
            prove_load(attempt)
            prove_parity(attempt)
            rehearse(attempt)
            foresee(attempt)
            if not inline:
                return Completed(message=schedule_ramp(attempt))
            ramp_inline(attempt)
    except CrossfadeError as error:
        return failed(error, end_in_failure(attempt, error))
    except Exception as error:
        end_in_failure(attempt, error)
        raise
    return Completed(message=report(attempt.migration))
