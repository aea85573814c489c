"""Ticks in processes that start in milliseconds: forked from one that has imported everything and has no threads."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from crossfade import failpoints
from crossfade.errors import CrossfadeError
from crossfade.tick_command import tick_once

_PRELOAD = ["pytest", "crossfade.tick_command", "crossfade.ramp.tick", "crossfade.wiring"]
"""Modules of installed packages: the server does not know the tests' folders. With pytest among them a child is there in 15 ms."""


def forkserver() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


class ForkedTick:
    """A tick under way. What it said is in `said` once it is over."""

    def __init__(self, migration: str, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._process: BaseProcess = forkserver().Process(target=_tick, args=(migration, dict(env), log))
        self._process.start()
        self.pid = self._process.pid or 0

    def over(self) -> bool:
        return not self._process.is_alive()

    def wait(self) -> int:
        """Its exit code."""
        self._process.join(60)
        assert self.over(), f"it did not end: {self.said()}"
        return self._process.exitcode or 0

    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


def _tick(migration: str, env: dict[str, str], log: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    importlib.reload(failpoints)  # what is armed is read when a process starts
    try:
        log.write_text(tick_once(migration))
    except CrossfadeError as error:
        log.write_text(str(error))
        sys.exit(error.exit_code)
