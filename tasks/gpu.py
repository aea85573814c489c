"""Hand work to the gpu pool and wait for it. A resumed parent finds its run again instead of starting a second one."""

from __future__ import annotations

import hashlib
from typing import cast

import httpx
from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun as Started
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from crossfade.errors import PermanentError, Unreachable
from crossfade.ports import SystemClock
from crossfade.prefect_api import FlowRun, PrefectApi
from crossfade.rollout.state import MigrationState
from tasks.await_run import await_end

CRASHES = 2
"""How often work whose worker died is started again."""


def hand_over(state: MigrationState, stage: str, parameters: dict[str, str], failure: type[PermanentError], *, again: str = "") -> str:
    """Run the deployment `<stage>/<stage>` on the gpu pool and return its message; raises `failure` with its message otherwise.

    The idempotency key is migration/attempt/stage/hash of the inputs: the same work of the same attempt is started once.
    Only a run that crashed (its worker or machine died) or was cancelled is followed by another, up to `CRASHES` times; `again` starts
    the work anew although it once completed. Raises Unreachable when Prefect stays without an answer for minutes: asking again goes on
    from there; and UserError when it refuses us, or when somebody deleted the run.
    """
    for crash in range(CRASHES + 1):
        ended = _ended(state, stage, parameters, "/".join(part for part in (again, str(crash) if crash else "") if part))
        if ended.state not in ("CRASHED", "CANCELLED"):
            break
    if ended.state != "COMPLETED":
        raise failure(ended.message or f"the run ended as {ended.state_name}; see its log")
    return ended.message or "completed"


def _ended(state: MigrationState, stage: str, parameters: dict[str, str], suffix: str) -> FlowRun:
    inputs = hashlib.sha256("\0".join(f"{name}={value}" for name, value in sorted(parameters.items())).encode()).hexdigest()[:16]
    try:
        started = run_deployment(
            f"{stage}/{stage}",
            parameters=parameters,
            idempotency_key=f"{state.name}/{state.attempt}/{stage}/{inputs}" + (f"/{suffix}" if suffix else ""),
            flow_run_name=f"{stage} {state.name} attempt {state.attempt}",
            timeout=0,  # created, or found by its key; waiting is done below
        )
    except httpx.HTTPError as error:  # a server that is away for minutes; the key finds the run again
        raise Unreachable(f"the Prefect server did not say what became of {stage}: {type(error).__name__} {error}") from None
    run_id = str(cast(Started, started).id)  # a coroutine only inside an async caller
    return await_end(PrefectApi(PREFECT_API_URL.value() or ""), run_id, SystemClock(), own_id=str(flow_run.id), log=get_run_logger())
