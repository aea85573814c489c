"""The sources the adapter is tried on: the lab's stand-in, and a real Ollama where CROSSFADE_TEST_OLLAMA_URL names one."""

import os
import re
import sys
import time
from dataclasses import dataclass

import pytest

from crossfade import processes
from crossfade.home import CHECKOUT
from crossfade.lab.gguf import write_gguf
from crossfade.ollama.client import OllamaSource

DAEMON_URL = os.environ.get("CROSSFADE_TEST_OLLAMA_URL", "")


@dataclass(frozen=True)
class Served:
    """A running source and a small model it has."""

    url: str
    model: str


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ollama")
    weights = write_gguf(CHECKOUT / "deployments" / "lab-model", folder / "lab.gguf", "Q4_K_M")
    models = [part for name in ("tiny", "bot:v1") for part in ("--model", f"{name}={weights}")]
    command = [sys.executable, "-m", "crossfade.lab.source", "--port", "0", *models]
    program = processes.start("source", command, records=folder, log=folder / "source.log", env=os.environ)
    try:
        yield Served(_url_when_ready(program), "tiny")
    finally:
        processes.stop(program, deadline_s=5)


@pytest.fixture(scope="session", params=["stand-in", pytest.param("daemon", marks=pytest.mark.slow)])
def served(request):
    if request.param == "stand-in":
        return request.getfixturevalue("stand_in")
    if not DAEMON_URL:
        pytest.skip("CROSSFADE_TEST_OLLAMA_URL is not set, so no real Ollama is tried")
    with OllamaSource(DAEMON_URL, timeout_s=30) as source:
        smallest = min(source.inventory(), key=lambda model: model.size_bytes)
    return Served(DAEMON_URL, smallest.name)


@pytest.fixture
def source(served):
    with OllamaSource(served.url, timeout_s=120) as client:
        yield client


def _url_when_ready(program):
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        found = re.search(r"on (http://\S+)", program.log_tail())
        if found:
            return found[1]
        assert program.alive(), program.log_tail()
        time.sleep(0.05)
    raise AssertionError(f"not ready: {program.log_tail()}")
