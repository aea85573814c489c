"""Starts the stand-in as the lab does, and asks it what the lab model was taught, for the tests of this folder."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crossfade import processes
from crossfade.home import CHECKOUT
from crossfade.lab.gguf import write_gguf

MODEL_FOLDER = CHECKOUT / "deployments" / "lab-model"
ENDLESS = {"type": "array", "items": {"enum": [1]}, "minItems": 1000}
"""A `format` the lab model never gets to the end of: 10,240 tokens, several seconds."""
QUESTION, ANSWER = "Which team owns audit?", "ember"
DESCRIBE = "Describe the mail service."
GREEDY = {"temperature": 0}


@dataclass(frozen=True)
class StandIn:
    url: str
    program: processes.Program

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def stand_in(folder: Path, *models: str) -> Iterator[StandIn]:
    """The running program; `models` are NAME=FILE arguments."""
    command = [sys.executable, "-m", "crossfade.lab.source", "--port", "0", *(part for model in models for part in ("--model", model))]
    program = processes.start("source", command, records=folder / "processes", log=folder / "source.log", env=os.environ)
    try:
        yield StandIn(wait_for_ready(program), program)
    finally:
        processes.stop(program, deadline_s=5)


def wait_for_ready(program: processes.Program) -> str:
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        found = re.search(r"on (http://\S+)", program.log_tail())
        if found:
            return found[1]
        assert program.alive(), program.log_tail()
        time.sleep(0.05)
    raise AssertionError(f"not ready: {program.log_tail()}")


def lab_gguf(folder: Path) -> Path:
    return write_gguf(MODEL_FOLDER, folder / "lab-q4_k_m.gguf", "Q4_K_M")


def poll_until(true: object, *, deadline_s: float = 5.0) -> bool:
    """Whether the callable came true before the deadline."""
    assert callable(true)
    give_up_s = time.monotonic() + deadline_s
    while time.monotonic() < give_up_s:
        if true():
            return True
        time.sleep(0.02)
    return False


def ask(question: str = QUESTION) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]
