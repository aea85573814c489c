"""The drift check: both weights asked through vLLM itself, once for each pair of weights, prompts and engine."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crossfade.errors import PermanentError, QuantizeFailed
from crossfade.home import CHECKOUT
from crossfade.parity.cases import load_suite
from crossfade.parity.drift import Answer, DriftReport, measure_drift
from crossfade.quantize.backend import SCRIPTS
from crossfade.quantize.once import only_maker
from crossfade.quantize.run import Tool
from crossfade.quantize.worker import Say, run_worker
from crossfade.weights import load_manifest, verify

WORKER = SCRIPTS / "drift_worker.py"

HELD_OUT = SCRIPTS / "held-out.jsonl"
"""General prompts, none of which stands among those to calibrate with, for plans without a suite."""

_LAB_CACHE = 64 << 20


class DriftRequest(BaseModel):
    """Everything that decides the numbers. Paths are seen alike by all workers of the pool. `suite` None is `HELD_OUT`.

    `device` and `devices` (numbers of GPUs, empty for all) decide how the engine is run and not what is compared, so they do not name
    the result. `kv_cache_bytes` is needed on a CPU only, where vLLM's own choice is gibibytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    quantized: str
    suite: str | None = None
    prompts: int = Field(32, ge=1)
    max_tokens: int = Field(48, ge=1)
    max_length: int = Field(2048, ge=16)
    environment: str = "vllm"
    dtype: str = "auto"
    device: Literal["cpu", "cuda"] = "cpu"
    devices: tuple[int, ...] = ()
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    kv_cache_bytes: int | None = None


def report_file(request: DriftRequest) -> Path:
    """Where the measurement lies or will lie, beside the quantized weights. Reads manifests and prompts, needs no engine."""
    folder = Path(request.quantized)
    inputs = {
        "base": sorted((file.path, file.sha256) for file in load_manifest(Path(request.base)).files),
        "quantized": sorted((file.path, file.sha256) for file in load_manifest(folder).files),
        "suite": hashlib.sha256(_read(_suite(request)).encode()).hexdigest(),
        "worker": hashlib.sha256(WORKER.read_bytes()).hexdigest(),
        "engine": _engine(request),
        **request.model_dump(include={"prompts", "max_tokens", "max_length", "dtype"}),
    }
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    return folder.with_name(f"{folder.name}.drift-{digest}.json")


def known_report(request: DriftRequest) -> DriftReport | None:
    """The measurement, if somebody has made it."""
    path = report_file(request)
    return DriftReport.model_validate_json(path.read_bytes()) if path.exists() else None


def drift(request: DriftRequest, *, tool: Tool, logs: Path, deadline_s: float, on_progress: Say) -> DriftReport:
    """The measurement, made now or found. The same comparison never runs twice, and a second caller waits for the first.

    Raises QuantizeFailed with the engine's own words when it cannot serve one of the two, WeightsInvalid for damaged weights.
    """
    final = report_file(request)
    with only_maker(final, on_progress) as lock:
        if (known := known_report(request)) is not None:
            on_progress(f"already compared: {final}")
            return known
        verify(Path(request.base))
        verify(Path(request.quantized))
        report = _measured(request, final, lock, tool=tool, logs=logs, deadline_s=deadline_s, say=on_progress)
        half = final.with_suffix(".tmp")
        half.write_text(report.model_dump_json(indent=1) + "\n")
        half.replace(final)
        return report


def _measured(request: DriftRequest, final: Path, lock: int, *, tool: Tool, logs: Path, deadline_s: float, say: Say) -> DriftReport:
    python, suite = tool(request.environment), _suite(request)
    say(f"comparing on prompts of {suite}" + ("" if request.suite else ", Crossfade's own, because the plan names no suite"))
    cases = load_suite(_read(suite), str(suite))
    prompts = [case.prompt for case in cases[:: max(1, len(cases) // request.prompts)]][: request.prompts]
    work = final.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    work.mkdir()
    job, out = work / "job.json", work / "answers.json"
    both = ["base", "quantized"]
    try:
        for steps in [both] if request.device == "cpu" else [[each] for each in both]:
            job.write_text(json.dumps({**_job(request, prompts, out), "steps": steps}))
            log = logs / f"{final.stem}-{'-'.join(steps)}.log"
            run_worker(
                python,
                WORKER,
                job,
                log=log,
                keep_open=(lock,),
                deadline_s=deadline_s,
                say=say,
                devices=request.devices,
                what="vLLM, asked to compare weights,",
            )
        answers = _answers(prompts, json.loads(out.read_text()))
    except QuantizeFailed as error:
        raise type(error)(
            f"{error}\nIf the unquantized weights do not fit here, nothing can be compared: say so in drift: {{skip: REASON}} of the plan."
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return measure_drift(answers, engine=f"{_engine(request)[0]} on {request.device}", suite=str(suite))


def _job(request: DriftRequest, prompts: list[str], out: Path) -> dict[str, object]:
    options: dict[str, object] = {"dtype": request.dtype}
    # vLLM compiles the ranking of tokens: 10 s to minutes on a CPU, for a function that runs milliseconds here
    environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "TORCHDYNAMO_DISABLE": "1"}
    if request.device == "cpu":
        environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
        cache = request.kv_cache_bytes or _LAB_CACHE
        options |= {"distributed_executor_backend": "uni", "kv_cache_memory_bytes": cache, "max_num_seqs": 16}
    else:
        options |= {"tensor_parallel_size": request.tensor_parallel_size}
        if request.gpu_memory_utilization:
            options |= {"gpu_memory_utilization": request.gpu_memory_utilization}
    return {
        "base": str(Path(request.base).resolve()),
        "quantized": str(Path(request.quantized).resolve()),
        "prompts": prompts,
        "max_tokens": request.max_tokens,
        "max_length": request.max_length,
        "seed": 0,
        "device": request.device,
        "options": options,
        "environment": environment,
        "out": str(out.resolve()),
    }


class _Opinion(BaseModel):
    logprobs: tuple[float | None, ...]
    first: tuple[bool, ...]


class _Own(BaseModel):
    text: str


class _Found(BaseModel):
    """What the worker wrote, as far as it is counted."""

    answers: tuple[_Own, ...]
    base: tuple[_Opinion, ...]
    quantized: tuple[_Opinion, ...]
    own: tuple[_Own, ...]


def _answers(prompts: list[str], written: object) -> list[Answer]:
    found = _Found.model_validate(written)
    return [
        Answer(
            prompt=prompt,
            base_text=answer.text,
            text=own.text,
            base_logprobs=base.logprobs,
            logprobs=quantized.logprobs,
            base_first=base.first,
            first=quantized.first,
        )
        for prompt, answer, own, base, quantized in zip(prompts, found.answers, found.own, found.base, found.quantized, strict=True)
    ]


def _suite(request: DriftRequest) -> Path:
    return Path(request.suite) if request.suite else HELD_OUT


def _read(suite: Path) -> str:
    try:
        return suite.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{suite}: cannot read the prompts to compare weights with: {error}. Check drift.suite in the plan.") from None


def _engine(request: DriftRequest) -> tuple[str, str]:
    """The environment, and a hash of its lock: another vLLM may compute with other kernels."""
    lock = CHECKOUT / "deployments" / "environments" / f"{request.environment}.lock.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""
    return request.environment, digest
