"""A whole migration, from a plan to a finished soak."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from crossfade.errors import CrossfadeError
from flows.ramp import ramp, soak
from tasks.assess import assess
from tasks.begin import begin, only_run_of
from tasks.cutover import cut_over
from tasks.download import download
from tasks.finish import end_in_failure, failed, report
from tasks.observe import observe
from tasks.parity import prove_parity
from tasks.quantize import quantize
from tasks.rehearse import rehearse
from tasks.serve import serve


@flow(name="migrate", log_prints=False, persist_result=False)
def migrate(plan: str) -> State[str]:
    """Move the plan's model to vLLM. `plan` is a file name on the worker's machine, or pasted YAML."""
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
            prove_parity(attempt)
            rehearse(attempt)
            ramp(attempt)
            cut_over(attempt)
            soak(attempt)
    except CrossfadeError as error:
        return failed(error, end_in_failure(attempt, error))
    except Exception as error:
        end_in_failure(attempt, error)
        raise
    return Completed(message=report(attempt.migration))
