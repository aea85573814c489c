"""Start a target and leave it running, on the gpu pool."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from crossfade.errors import CrossfadeError
from tasks.start_target import start_target


@flow(name="serve", log_prints=False, persist_result=False)
def serve(plan: str, migration: str, weights: str) -> State[str]:
    """`plan` is the plan's YAML, `weights` a folder with a manifest. The server outlives this run; starting it twice adopts it."""
    try:
        how = start_target(plan, migration, weights)
    except CrossfadeError as error:
        return Failed(message=str(error))
    return Completed(message=how)
