"""What sizing found, in the form the plan says it: where the plan leaves `auto`, the server is started with these."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from pydantic import BaseModel, ConfigDict

from crossfade.assess.gpus import Gpu, devices
from crossfade.assess.load import Load
from crossfade.assess.sizing import Sizing
from crossfade.plan.model import LoadPlan, Plan


class Layout(BaseModel):
    """How to spread a server over GPUs; stored with the assessment. Bytes are per GPU, None is vLLM's own choice."""

    model_config = ConfigDict(frozen=True)

    tensor_parallel_size: int
    devices: tuple[int, ...]
    max_model_len: int
    max_num_seqs: int
    gpu_memory_utilization: float | None
    kv_cache_bytes: int | None


def layout_of(sizing: Sizing) -> Layout | None:
    """The layout; None without GPUs, where nothing is known that would be better than vLLM's own choice."""
    if not sizing.devices:
        return None
    return Layout(
        tensor_parallel_size=sizing.tensor_parallel_size,
        devices=sizing.devices,
        max_model_len=sizing.max_model_len,
        max_num_seqs=sizing.max_num_seqs,
        gpu_memory_utilization=sizing.gpu_memory_utilization,
        kv_cache_bytes=sizing.kv_cache_bytes,
    )


def filled_in(plan: Plan, layout: Layout | None) -> Plan:
    """The plan with its `auto`s replaced by what sizing found. What a person wrote stays as it is.

    GPUs are numbered as the driver numbers them; where the plan lists them itself nobody knows their numbers on that machine.
    """
    if layout is None:
        return plan
    wanted = plan.target.vllm
    found = {
        "tensor_parallel_size": layout.tensor_parallel_size,
        "gpu_memory_utilization": layout.gpu_memory_utilization,
        "devices": None if plan.target.gpus else layout.devices,
        "max_model_len": layout.max_model_len,
        "kv_cache": layout.kv_cache_bytes,
    }
    update = {name: value for name, value in found.items() if value is not None and getattr(wanted, name) == "auto"}
    vllm = wanted.model_copy(update=update | {"max_num_seqs": max(wanted.max_num_seqs, layout.max_num_seqs)})
    return plan.model_copy(update={"target": plan.target.model_copy(update={"vllm": vllm})})


def free_bytes(gpus: tuple[Gpu, ...], layout: Layout | None) -> int:
    """What nobody holds now, on the GPUs of a layout together; on all of them where there is none."""
    return sum(device.free_bytes for device in devices(gpus) if layout is None or device.index in layout.devices)


def expected_load(load: LoadPlan | None, seen_at_once: float) -> Load | None:
    """The load a plan names, raised to the requests at once that the router was seen to carry, where that is more; 0 where none were.

    Without a plan's lengths of prompts and answers there is no load that a cache could be sized for, whatever was seen.
    """
    planned = planned_load(load)
    if planned is None or planned.concurrency >= seen_at_once:
        return planned
    return replace(planned, at_once=ceil(10 * seen_at_once) / 10, source="measured")


def planned_load(load: LoadPlan | None) -> Load | None:
    """The load a plan names, as sizing counts with it."""
    if load is None:
        return None
    return Load(
        prompt_tokens=load.prompt_tokens,
        output_tokens=load.output_tokens,
        requests_per_s=load.requests_per_s,
        seconds=load.seconds,
        longest_tokens=load.longest_tokens,
        at_once=load.at_once,
        source="planned",
    )
