"""The command line and environment of a vLLM server, built from what is known about vLLM and from nothing else.

Pure: no process is started and no file is read here. Which flag exists in which version is `flags`' to know, and what is made here is
compared with the installed vLLM there; H numbers are the hazards of the project's list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from crossfade.rollout.routes import canonical

Device = Literal["cpu", "cuda"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]

INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "CROSSFADE_LAB",  # names the lab that may stop it
)
"""What a server may know of its starter's environment: a list of what to keep, so that no token reaches a process that is offline."""


@dataclass(frozen=True)
class ServeSpec:
    """One vLLM server: which weights, under which names, with how much room.

    `served_names[0]` becomes the `model_name` label of every metric. `kv_cache_bytes` is exact and replaces vLLM's share of
    the whole memory; on a CPU give it, because vLLM's own choice there is gibibytes. `drain_s` is how long a stopping server
    finishes its streams (H14); `load_within_s` how long it may load weights, where vLLM's own limit is 600 (H15). `cache`
    keeps compiled kernels between starts. `sampling` is what a request gets that does not say. `flags` are further flags, name to value,
    true for one without a value. `api_key` reaches the server by its environment and never by its command line.
    """

    python: Path
    weights: Path
    served_names: tuple[str, ...]
    port: int
    device: Device
    cache: Path
    max_model_len: int | Literal["auto"] = "auto"
    tensor_parallel_size: int | Literal["auto"] = "auto"
    gpu_memory_utilization: float | Literal["auto"] = "auto"
    devices: tuple[int, ...] | Literal["auto"] = "auto"
    max_num_seqs: int = 64
    dtype: Dtype = "auto"
    kv_cache_bytes: int | Literal["auto"] = "auto"
    enforce_eager: bool = False
    drain_s: int = 30
    load_within_s: int = 1800
    tool_parser: str = ""
    reasoning_parser: str = ""
    chat_template: Path | None = None
    chat_template_kwargs: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    generation_config: Literal["vllm", "auto"] = "vllm"
    sampling: Mapping[str, int | float] = field(default_factory=dict)
    flags: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)


def served_names(model: str, aliases: Iterable[str] = (), hidden: Iterable[str] = ()) -> tuple[str, ...]:
    """Every name a client of Ollama may send for this model, `model` itself first, none twice (H16).

    Ollama takes `tiny` and `tiny:latest` for one model and vLLM does not, so both are listed. A bare name is never made from
    another tag: `llama3.1` is not `llama3.1:8b`. `hidden` names are taken as they are.
    """
    names: dict[str, None] = {}
    for name in (model, *aliases):
        names[name] = None
        bare = canonical(name)
        names[bare] = None
        if ":" not in bare:
            names[f"{bare}:latest"] = None
    names.update(dict.fromkeys(hidden))
    return tuple(names)


def command(spec: ServeSpec) -> list[str]:
    """The argument list, program first. Binds loopback only: the router is the one way in."""
    arguments = [
        *(
            str(spec.python),
            "-m",
            "vllm.entrypoints.openai.api_server",
        ),  # unlike `vllm serve` it also runs in the CPU build, which has no `vllm` metadata
        *("--model", str(spec.weights)),
        *("--served-model-name", *spec.served_names),  # separate values; one string with spaces would be one name
        *("--host", "127.0.0.1", "--port", str(spec.port)),
        *("--generation-config", spec.generation_config),  # auto: the repository's own sampling defaults apply silently (H3)
        *("--max-num-seqs", str(spec.max_num_seqs)),
        *("--dtype", spec.dtype),
        *("--uvicorn-log-level", "warning"),  # no line a request: the log is for diagnosis
    ]
    if spec.max_model_len != "auto":
        arguments += ["--max-model-len", str(spec.max_model_len)]
    if spec.tensor_parallel_size != "auto" and spec.device == "cuda":
        arguments += ["--tensor-parallel-size", str(spec.tensor_parallel_size)]
    if spec.gpu_memory_utilization != "auto" and spec.device == "cuda":
        arguments += ["--gpu-memory-utilization", str(spec.gpu_memory_utilization)]
    if spec.enforce_eager:
        arguments += ["--enforce-eager"]
    if spec.device == "cpu":
        arguments += ["--distributed-executor-backend", "uni"]  # one process less; works only with the variable set in `environment`
    if spec.kv_cache_bytes != "auto":
        arguments += ["--kv-cache-memory-bytes", str(spec.kv_cache_bytes)]
    return [*arguments, "--shutdown-timeout", str(spec.drain_s), *_answering(spec), *_further(spec)]


def _answering(spec: ServeSpec) -> list[str]:
    """How requests are understood and answers are written."""
    arguments = []
    if spec.tool_parser:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", spec.tool_parser]  # either alone is refused (H5)
    if spec.reasoning_parser:
        arguments += ["--reasoning-parser", spec.reasoning_parser]
    if spec.chat_template:
        arguments += ["--chat-template", str(spec.chat_template)]
    if spec.chat_template_kwargs:
        arguments += ["--default-chat-template-kwargs", json.dumps(dict(spec.chat_template_kwargs), sort_keys=True)]
    if spec.sampling:
        arguments += ["--override-generation-config", json.dumps(dict(spec.sampling), sort_keys=True)]
    return arguments


def _further(spec: ServeSpec) -> list[str]:
    arguments = []
    for name, value in spec.flags.items():
        flag = "--" + name.replace("_", "-")
        arguments += [flag] if value is True else ["--no-" + flag[2:]] if value is False else [flag, str(value)]
    return arguments


def environment(spec: ServeSpec, base: Mapping[str, str]) -> dict[str, str]:
    """The server's whole environment: a few variables of `base`, and what makes it quiet, offline and quick to start.

    `VLLM_CPU_KVCACHE_SPACE` never passes: it overrides the exact byte count, and empty it crashes the engine.
    """
    kept = {name: base[name] for name in INHERITED if name in base}
    settings = {
        "HF_HUB_OFFLINE": "1",  # a server never downloads; what it serves was checked before
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": str(spec.cache),
        "VLLM_ENGINE_READY_TIMEOUT_S": str(spec.load_within_s),
        "PYTHONUNBUFFERED": "1",  # or the last words of a dying server are lost
    }
    if spec.api_key:
        settings |= {"VLLM_API_KEY": spec.api_key}
    if spec.devices != "auto" and spec.device == "cuda":
        settings |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, spec.devices))}
    if spec.device == "cpu":
        settings |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
    return kept | settings
