"""Quantize weights, on the gpu pool."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from crossfade.errors import CrossfadeError
from crossfade.quantize.request import QuantizeRequest
from tasks.run_quantizer import run_quantizer


@flow(name="quantize", log_prints=False, persist_result=False)
def quantize(request: str) -> State[str]:
    """`request` is a QuantizeRequest as JSON: a folder of weights, a scheme, and where results go."""
    try:
        folder = run_quantizer(QuantizeRequest.model_validate_json(request))
    except CrossfadeError as error:
        return Failed(message=str(error))
    return Completed(message=f"weights in {folder}")
