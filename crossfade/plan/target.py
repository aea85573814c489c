"""The target's part of the plan: where vLLM runs, on which GPUs, and what it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from crossfade.plan.addresses import HostPort
from crossfade.plan.part import Part
from crossfade.plan.units import Bytes, Seconds, at_least


class ProcessRuntime(Part):
    """vLLM as a process of this machine, bound to loopback."""

    kind: Literal["process"] = "process"
    port: int = Field(8000, ge=1, le=65535, description="auto: one between 20000 and 29999 that follows from the plan's name.")
    environment: str = Field("vllm", description="Name of a lock under deployments/environments that provides vLLM.")
    start_within: Seconds = 1800.0
    drain: Annotated[Seconds, at_least(1)] = Field(30.0, description="How long a stopping vLLM may finish the answers it has begun.")


RESERVED_FLAGS = frozenset({
    "allowed-origins", "api-key", "config", "disable-log-stats", "download-dir", "hf-token", "host", "load-format", "middleware", "model",
    "port", "revision", "root-path", "served-model-name", "ssl-keyfile", "tokenizer", "trust-remote-code", "uds",
})  # fmt: skip
"""Flags of vLLM that `flags:` may not set: the plan says them elsewhere, or they would undo what Crossfade promises or needs to see."""

Setting = bool | int | float | str


class GpuPlan(Part):
    """GPUs that are alike, for when the machine with the driver is not asked. `used` is what others hold on each, the source included."""

    name: str = "GPU"
    count: int = Field(1, ge=1)
    memory: Bytes
    used: Bytes = 0
    capability: float | None = Field(None, description="CUDA's compute capability, like 8.9; without it nothing is refused for it.")


class VllmOptions(Part):
    """What `vllm serve` is told beyond names and paths. `auto` is what sizing finds where GPUs are known, else vLLM's own choice."""

    tensor_parallel_size: int | Literal["auto"] = "auto"
    gpu_memory_utilization: float | Literal["auto"] = "auto"
    devices: tuple[int, ...] | Literal["auto"] = Field("auto", description="Numbers of the GPUs, for CUDA_VISIBLE_DEVICES.")
    max_model_len: int | Literal["auto"] = "auto"
    max_num_seqs: int = Field(64, ge=1)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    kv_cache: Bytes | Literal["auto"] = "auto"
    enforce_eager: bool = False
    tool_parser: str = Field("auto", description="vLLM's name of it; auto is the one of the model's family, none is none.")
    reasoning_parser: str = Field("auto", description="As tool_parser. Without one, thoughts stay in the answer's text.")
    chat_template: Path | None = Field(None, description="A Jinja file in the place of the repository's own template.")
    chat_template_kwargs: Mapping[str, Setting] = Field({}, description="Defaults for the template, like {enable_thinking: false}.")
    generation_config: Literal["vllm", "auto"] = Field(
        "vllm", description="auto: the repository's sampling defaults, which Ollama never read."
    )
    sampling: Mapping[str, int | float] = Field(
        {}, description="What a request gets that does not say, like {temperature: 0.8, top_k: 40}."
    )
    flags: Mapping[str, Setting] = Field({}, description="Further flags of vLLM by name, like {max_num_batched_tokens: 8192}.")
    api_key_file: Path | None = Field(
        None, description="File with a key that every client must send; Ollama needs none, so clients must send it before the ramp."
    )

    @field_validator("flags")
    @classmethod
    def _flags_are_free(cls, flags: Mapping[str, Setting]) -> Mapping[str, Setting]:
        for name in flags:
            plain = name.replace("_", "-").removeprefix("no-")
            if not re.fullmatch(r"[a-z][a-z0-9-]*", plain):
                raise ValueError(f"{name!r} is no flag of vLLM; write it without dashes in front, like max_num_batched_tokens")
            if plain in RESERVED_FLAGS or plain.replace("-", "_") in cls.model_fields:
                raise ValueError(f"{name} cannot be set here: the plan has a field for it, or Crossfade must decide it")
        return flags


class TargetPlan(Part):
    """The engine we go to. `reach` is where the router finds it, if that is not where it listens."""

    runtime: ProcessRuntime = ProcessRuntime()
    vllm: VllmOptions = VllmOptions()
    gpus: tuple[GpuPlan, ...] = Field((), description="The target's GPUs; left out, the driver here is asked, then DCGM in Prometheus.")
    reach: HostPort | None = None
    restarts_at_most: int = Field(
        2, ge=0, description="Restarts in one attempt after which a ramp begins again by itself; at the next one it is paused for a person."
    )

    @property
    def address(self) -> str:
        """`host:port` the router sends target traffic to."""
        return self.reach or f"127.0.0.1:{self.runtime.port}"
