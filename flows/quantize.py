"""Quantize weights and compare them with what they were made from, on the gpu pool."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from crossfade.errors import CrossfadeError
from crossfade.quantize.drift import DriftRequest
from crossfade.quantize.request import QuantizeRequest
from tasks.run_quantizer import compare_weights, run_quantizer


@flow(name="quantize", log_prints=False, persist_result=False)
def quantize(request: str, drift: str = "") -> State[str]:
    """`request` is a QuantizeRequest as JSON: a folder of weights, a scheme, and where results go. `drift` is a DriftRequest as JSON
    whose `quantized` is filled in here; empty, nothing is compared.
    """
    try:
        folder = run_quantizer(QuantizeRequest.model_validate_json(request))
        if drift:
            compare_weights(DriftRequest.model_validate_json(drift).model_copy(update={"quantized": folder}))
    except CrossfadeError as error:
        return Failed(message=str(error))
    return Completed(message=f"weights in {folder}" + (", compared with what they were made from" if drift else ""))
