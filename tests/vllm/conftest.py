"""One healthy vLLM for the whole session: a start costs 16 to 25 s on two cores."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from serving_in_tests import LAB_MODEL, Serving, free_port, launch_of, wait

from crossfade.errors import ToolMissing
from crossfade.home import CHECKOUT, Home
from crossfade.runtime.environments import find
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.command import ServeSpec, served_names


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    home = Home.from_environment() if "CROSSFADE_HOME" in os.environ else Home(CHECKOUT / ".lab")
    try:
        return find("vllm", home).python
    except ToolMissing as missing:
        pytest.skip(f"vLLM's environment is needed: {missing}")


@pytest.fixture(scope="session")
def spec(vllm_python, tmp_path_factory) -> ServeSpec:
    return ServeSpec(
        python=vllm_python,
        weights=LAB_MODEL,
        served_names=served_names("lab", ["lab-bot"], hidden=["crossfade-rehearsal"]),
        port=free_port(),
        device="cpu",
        cache=tmp_path_factory.mktemp("vllm-cache"),
        max_model_len=512,
        max_num_seqs=16,
        dtype="float32",
        kv_cache_bytes=64 << 20,
        enforce_eager=True,
    )


@pytest.fixture(scope="session")
def serving(spec, tmp_path_factory):
    runtime = ProcessRuntime(Home(tmp_path_factory.mktemp("serving")))
    spec = replace(spec, port=free_port())
    launch, client = launch_of(spec), VllmTarget(f"http://127.0.0.1:{spec.port}", timeout_s=30)
    target = runtime.start_target("lab", launch)
    try:
        yield Serving(runtime, spec, launch, target, wait(runtime, target, client, "lab"), client)
    finally:
        runtime.stop_target("lab", deadline_s=20)
        client.close()
