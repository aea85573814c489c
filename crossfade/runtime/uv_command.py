"""Run uv, pass on what it tells, and keep the end of it for the day it fails."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import uv

from crossfade.runtime.package_sources import PackageSources

_TOLD = ("Downloading", "Building", "Prepared", "Installed", "Bytecode", "Compiled", "warning:")
"""Line beginnings of uv that say progress; the list of every package does not."""

_SIGN_OF_LIFE_S = 15.0


class UvFailed(Exception):
    """uv ended with an error; `tail` is the end of what it printed."""

    def __init__(self, tail: str) -> None:
        super().__init__(tail)
        self.tail = tail


def run_uv(
    arguments: Sequence[str], *, sources: PackageSources, cwd: Path, say: Callable[[str], None], keep_open: tuple[int, ...] = ()
) -> None:
    """Run uv to its end; raises UvFailed. `keep_open` are descriptors uv inherits, so that a lock on one outlives us."""
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        [uv.find_uv_bin(), *arguments, *(sources.arguments if arguments[0] == "pip" else ())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**sources.environment(), "NO_COLOR": "1"},
        cwd=cwd,
        pass_fds=keep_open,
    ) as process:
        assert process.stderr is not None  # noqa: S101 - because of stderr=PIPE
        try:
            for line in _lines(process.stderr):
                if not line:
                    say(f"still at it after {time.monotonic() - started:.0f} s")
                    continue
                tail.append(line)
                if line.lstrip().startswith(_TOLD):
                    say(line.strip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise UvFailed("\n".join(tail) or f"nothing, exit code {process.returncode}")


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines as they come; an empty one as a sign of life when nothing came for a while."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=_SIGN_OF_LIFE_S):
                yield ""
                continue
            chunk = os.read(stream.fileno(), 65536)
            *complete, pending = (pending + chunk).split(b"\n")
            yield from (text for raw in complete if (text := raw.decode(errors="replace").rstrip()))
            if not chunk:
                if pending.strip():
                    yield pending.decode(errors="replace").rstrip()
                return
