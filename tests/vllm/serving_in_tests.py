"""What the tests of a real vLLM share: how it is started and waited for."""

import os
import socket
from dataclasses import dataclass
from functools import partial

from crossfade.home import CHECKOUT
from crossfade.ports import SystemClock
from crossfade.runtime.launch import Launch, RunningTarget
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.command import ServeSpec, command, environment
from crossfade.vllm.diagnosis import diagnose

LAB_MODEL = CHECKOUT / "deployments" / "lab-model"


@dataclass(frozen=True)
class Serving:
    """A server that answered, with all it takes to start it again."""

    runtime: ProcessRuntime
    spec: ServeSpec
    launch: Launch
    target: RunningTarget
    ready_s: float
    client: VllmTarget


def launch_of(spec: ServeSpec) -> Launch:
    return Launch(tuple(command(spec)), environment(spec, os.environ), spec.port)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait(runtime: ProcessRuntime, target: RunningTarget, client: VllmTarget, model: str) -> float:
    return runtime.wait_ready(
        target,
        probe=partial(client.complete, model, "What is 4+6?", max_tokens=8),
        diagnose=diagnose,
        clock=SystemClock(),
        deadline_s=180,
        on_progress=print,
    )
