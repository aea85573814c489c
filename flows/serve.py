"""Start a target and leave it running, on the gpu pool."""

from __future__ import annotations

import platform

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from crossfade.errors import CrossfadeError
from tasks.start_target import start_target


@flow(name="serve", log_prints=False, persist_result=False)
def serve(plan: str, migration: str, weights: str, host: str = "") -> State[str]:
    """`plan` is the plan's YAML, `weights` a folder with a manifest. The server outlives this run; starting it twice adopts it.

    `host` is the machine of the router and of whoever asks the target; on any other nothing is started. Empty, any will do.
    """
    if host not in ("", platform.node()):
        return Failed(
            message=f"this worker is on {platform.node()}, and the target must listen on {host}, where the router is: nothing was started. "
            "Give serve a pool of its own with a worker on that machine (deployments/work-pools/README.md)."
        )
    try:
        how = start_target(plan, migration, weights)
    except CrossfadeError as error:
        return Failed(message=str(error))
    return Completed(message=how)
