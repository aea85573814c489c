"""On the gpu pool: start vLLM on quantized or plain weights, and wait until it did real work."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from prefect import get_run_logger

from crossfade.home import Home
from crossfade.plan.load import parse_plan
from crossfade.plan.model import Plan
from crossfade.ports import SystemClock
from crossfade.rollout.names import rehearsal_model, route_name
from crossfade.runtime.environments import find
from crossfade.runtime.launch import Difference, Launch
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.command import ServeSpec, command, environment, served_names
from crossfade.vllm.diagnosis import diagnose
from crossfade.weights import verify
from tasks.quiet import quiet_task


@quiet_task("start target for {migration}", retries=1, retry_delay_s=5, timeout=timedelta(hours=2))
def start_target(plan: str, migration: str, weights: str) -> str:
    """How the target came to run and how long it took. It outlives this run; the same start again adopts it."""
    return _started(parse_plan(plan, origin=f"plan of {migration}", folder=Path("/")).plan, migration, Path(weights))


def _started(plan: Plan, migration: str, weights: Path) -> str:
    home, log = Home.from_environment(), get_run_logger()
    verify(weights)
    spec = _spec(plan, migration, weights, home)
    launch = Launch(command=tuple(command(spec)), env=environment(spec, os.environ), port=spec.port)
    runtime = ProcessRuntime(home)
    # No user is on this migration's target while this stage runs, so one that was started differently may be replaced.
    target = runtime.start_target(f"target-{route_name(migration)}", launch, on_difference=Difference.REPLACE)
    with closing(VllmTarget(target.url, timeout_s=60)) as client:
        seconds = runtime.wait_ready(
            target,
            probe=lambda: client.complete(rehearsal_model(migration), "What is 4+6?", max_tokens=8),
            diagnose=diagnose,
            clock=SystemClock(),
            deadline_s=plan.target.runtime.start_within,
            on_progress=log.info,
        )
    return f"{target.origin} as process {target.program.pid}, answered after {seconds:.0f} s"


def _spec(plan: Plan, migration: str, weights: Path, home: Home) -> ServeSpec:
    model, wanted = plan.model(migration.split("/", 1)[1]), plan.target.vllm
    return ServeSpec(
        python=find(plan.target.runtime.environment, home).python,
        weights=weights,
        served_names=served_names(model.ollama, model.aliases, (rehearsal_model(migration),)),
        port=plan.target.runtime.port,
        device="cuda" if shutil.which("nvidia-smi") else "cpu",
        cache=home.root / "vllm-cache",
        tensor_parallel_size=wanted.tensor_parallel_size,
        gpu_memory_utilization=wanted.gpu_memory_utilization,
        devices=wanted.devices,
        max_model_len=wanted.max_model_len,
        max_num_seqs=wanted.max_num_seqs,
        dtype=wanted.dtype,
        kv_cache_bytes=wanted.kv_cache,
        enforce_eager=wanted.enforce_eager,
        load_within_s=int(plan.target.runtime.start_within),
    )
