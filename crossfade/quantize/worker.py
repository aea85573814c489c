"""One run of a worker script in a tool's environment: a job in, progress lines out, and no process left behind however we end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from crossfade.errors import QuantizeFailed, QuantizeOverdue, ToolMissing

Say = Callable[[str], None]

_INHERITED = (
    "PATH",
    "CROSSFADE_LAB",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)
_CHOSEN_ALREADY = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""Whoever gave a worker or a container its GPUs has said so in these, and numbers of another machine mean nothing there."""

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}
_TAIL_LINES = 15


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    event: str
    text: str = ""


def run_worker(
    python: Path,
    script: Path,
    job: Path,
    *,
    log: Path,
    keep_open: tuple[int, ...],
    deadline_s: float,
    say: Say,
    devices: Collection[int] = (),
    what: str = "the quantizer",
) -> None:
    """Return when the worker reported its result and ended well; its other output is in `log`.

    Raises QuantizeFailed with the log's tail otherwise, QuantizeOverdue after `deadline_s`. The worker holds our end of a pipe as its life
    line: when we die, it dies. `devices` are the GPUs it may use, unless this worker was given its own. `keep_open` are lock files that
    stay locked as long as it lives, should it outlive us for a moment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        try:
            worker = subprocess.Popen(
                [str(python), str(script), str(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(os.environ, devices),
                pass_fds=keep_open,
                start_new_session=True,
                text=True,
            )
        except OSError as error:
            raise ToolMissing(f"cannot start {what}: {python}: {error.strerror}. Build its environment again.") from None
    overdue = threading.Event()

    def stop() -> None:
        overdue.set()
        _kill(worker)

    alarm = threading.Timer(deadline_s, stop)
    alarm.daemon = True
    alarm.start()
    finished = False
    try:
        assert worker.stdout is not None  # noqa: S101 - asked for two statements above
        for line in worker.stdout:
            event = _parsed(line)
            finished = finished or event.event == "result"
            say(event.text)
        exit_code = worker.wait()
    finally:
        alarm.cancel()
        _kill(worker)
        worker.wait()
    if exit_code != 0 or not finished:
        failure = QuantizeOverdue if overdue.is_set() else QuantizeFailed
        why = f"was stopped after {deadline_s:.3g} s" if overdue.is_set() else f"ended with exit code {exit_code} and no result"
        raise failure(f"{what} {why}. The end of its log {log}:\n{_tail(log)}")


def _kill(worker: subprocess.Popen[str]) -> None:
    """End the worker and what it started: on a GPU vLLM's engine is a process of its own, and keeps its memory if only its parent dies."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)


def _environment(base: Mapping[str, str], devices: Collection[int]) -> dict[str, str]:
    """No token of ours reaches the tool; it works offline on files that were checked before."""
    found = {name: base[name] for name in _INHERITED if name in base} | _OFFLINE
    if devices and not any(name in base for name in _CHOSEN_ALREADY):
        found |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))}
    return found


def _parsed(line: str) -> _Event:
    try:
        return _Event.model_validate_json(line)
    except ValidationError:
        return _Event(event="noise", text=line.strip())


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-_TAIL_LINES:]) or "(empty)"
