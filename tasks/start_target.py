"""On the gpu pool: start vLLM on quantized or plain weights, and wait until it did real work."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from prefect import get_run_logger

from crossfade.errors import StartAgain
from crossfade.home import Home
from crossfade.plan.load import parse_plan
from crossfade.plan.model import Plan
from crossfade.ports import SystemClock
from crossfade.rollout.names import rehearsal_model, route_name
from crossfade.runtime.environments import find
from crossfade.runtime.launch import Difference, EndedAtStart, Launch
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.command import ServeSpec, command, environment, served_names
from crossfade.vllm.diagnosis import Diagnosis, diagnose
from crossfade.vllm.flags import fit, installed_flags
from crossfade.vllm.key import read_key
from crossfade.vllm.mending import mended
from crossfade.vllm.signatures import Retry
from crossfade.vllm.weights_on_disk import parsers_of
from crossfade.weights import verify
from tasks.quiet import quiet_task

_BEYOND_DRAIN_S = 10.0
"""After its own drain time-out a server still has to end its processes."""


@quiet_task("start target for {migration}", retries=2, retry_delay_s=10, timeout=timedelta(hours=2))
def start_target(plan: str, migration: str, weights: str) -> str:
    """How the target came to run and how long it took. It outlives this run; the same start again adopts it.

    An end that passes by itself (memory moved, the process was killed) is tried again, one that a setting mends is mended once and said.
    """
    asked = parse_plan(plan, origin=f"plan of {migration}", folder=Path("/")).plan
    home, log = Home.from_environment(), get_run_logger()
    verify(Path(weights))
    spec = _spec(asked, migration, Path(weights), home)
    try:
        return _started(spec, asked, migration, home)
    except EndedAtStart as ended:
        finding = ended.finding
        if not isinstance(finding, Diagnosis) or finding.retry is Retry.NO:
            raise
        if finding.retry is Retry.LATER:
            raise StartAgain(str(ended), delay_s=10) from None
        changed = mended(spec, finding.category)
        if changed is None:
            raise
        log.warning("%s Starting it again with %s.", ended, changed.what)
        return f"{_started(changed.spec, asked, migration, home)}, with {changed.what}"


def _started(spec: ServeSpec, plan: Plan, migration: str, home: Home) -> str:
    log = get_run_logger()
    env = environment(spec, os.environ)
    fitted = fit(command(spec), installed_flags(spec.python, env))
    for loss in fitted.left_out:
        log.warning(loss)
    launch, runtime = Launch(command=fitted.command, env=env, port=spec.port), ProcessRuntime(home)
    # No user is on this migration's target while this stage runs, so one that was started differently may be replaced.
    name, drain_s = f"target-{route_name(migration)}", spec.drain_s + _BEYOND_DRAIN_S
    target = runtime.start_target(name, launch, on_difference=Difference.REPLACE, drain_s=drain_s)
    with closing(VllmTarget(target.url, timeout_s=60, key_file=plan.target.vllm.api_key_file)) as client:
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
    parsers = parsers_of(weights, wanted.chat_template)
    get_run_logger().info("tool parser %s, reasoning parser %s: %s", parsers.tool or "none", parsers.reasoning or "none", parsers.why)
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
        drain_s=int(plan.target.runtime.drain),
        chat_template=wanted.chat_template,
        chat_template_kwargs=wanted.chat_template_kwargs,
        generation_config=wanted.generation_config,
        sampling=wanted.sampling,
        flags=wanted.flags,
        api_key=read_key(wanted.api_key_file),
        tool_parser=parsers.tool if wanted.tool_parser == "auto" else wanted.tool_parser.removeprefix("none"),
        reasoning_parser=parsers.reasoning if wanted.reasoning_parser == "auto" else wanted.reasoning_parser.removeprefix("none"),
    )
