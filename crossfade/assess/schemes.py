"""Which ways of storing weights a GPU can compute with. Limits are those of vLLM 0.32's documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.assess.architecture import Architecture
from crossfade.assess.tensors import GROUP, Made
from crossfade.plan.model import Scheme

_FP8_NATIVE = 8.9
_BFLOAT16 = 8.0


@dataclass(frozen=True)
class Range:
    """Compute capabilities from `least` up to, and without, `below`."""

    least: float
    below: float = 1000.0


CAPABILITY: Mapping[Made, Range] = {
    "none": Range(7.0),
    "fp8": Range(7.5),  # below 8.9 as storage only: numbers are widened before they are multiplied
    "w8a8": Range(7.5, below=10.0),  # Blackwell has no such kernels in vLLM
    "awq": Range(7.5),
    "gptq": Range(7.5),
}

PUBLISHED: Mapping[str, Range] = {
    **{"fp8": Range(7.5), "compressed-tensors": Range(7.5), "awq": Range(7.5), "gptq": Range(7.0), "mxfp4": Range(8.0)},
    **{"modelopt": Range(8.9), "fbgemm_fp8": Range(8.0), "bitsandbytes": Range(7.0)},
}
"""Floors of weights that are published quantized, by `quant_method`. One that is not listed is left to vLLM to refuse."""


def candidates(wish: Scheme, model: Architecture, capability: float | None) -> tuple[Made, ...]:
    """Schemes to try, the one that changes the answers least first. Published quantizations stay as they are.

    `auto` tries full precision, 8 bits in the form the GPU multiplies natively, and 4 bits last.
    """
    if model.quantized:
        return ("none",)
    if wish != "auto":
        return (wish,)
    eight: Made = "w8a8" if capability is not None and CAPABILITY["w8a8"].least <= capability < _FP8_NATIVE else "fp8"
    return ("none", eight, "awq")


def refusal(scheme: Made, model: Architecture, capability: float | None) -> str:
    """Why a GPU of this capability cannot serve the scheme; empty when it can, or when its capability is unknown."""
    if capability is None:
        return ""
    allowed = PUBLISHED.get(model.quantized, Range(0.0)) if model.quantized else CAPABILITY[scheme]
    what = f"weights published as {model.quantized}" if model.quantized else f"scheme {scheme}"
    if capability < allowed.least:
        return f"{what} needs compute capability {allowed.least:g}, this GPU has {capability:g} (H27)"
    if capability >= allowed.below:
        return f"vLLM has no kernels for {what} from compute capability {allowed.below:g} on, this GPU has {capability:g}; fp8 has"
    return ""


def remark(scheme: Made, model: Architecture, capability: float | None) -> str:
    """What a person should know about the scheme on this GPU; empty when nothing."""
    if capability is None:
        return "the GPU's compute capability is unknown, so whether it supports this is not checked"
    if scheme == "fp8" and capability < _FP8_NATIVE:
        return f"at capability {capability:g} fp8 saves memory but not time: numbers are widened before they are multiplied"
    if scheme == "none" and not model.quantized and model.dtype == "bfloat16" and capability < _BFLOAT16:
        return f"bfloat16 needs capability 8.0 and this GPU has {capability:g}: serve with dtype: float16"
    return ""


def parallel_refusal(scheme: Made, model: Architecture, tensor_parallel: int) -> str:
    """Why the model cannot be cut into so many parts; empty when it can."""
    if model.heads % tensor_parallel:
        return f"{model.heads} heads cannot be shared by {tensor_parallel} GPUs"
    if model.kv_heads % tensor_parallel and tensor_parallel % model.kv_heads:
        return f"{model.kv_heads} KV heads can neither be shared by {tensor_parallel} GPUs nor repeated evenly"
    if model.intermediate % tensor_parallel:
        return f"an intermediate size of {model.intermediate} cannot be shared by {tensor_parallel} GPUs"
    if scheme in ("awq", "gptq") and (model.intermediate // tensor_parallel) % GROUP:
        return f"{scheme} groups {GROUP} numbers, and {model.intermediate} / {tensor_parallel} is no multiple of it"
    return ""
