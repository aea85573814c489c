"""A writer in a process of its own, stopped or killed at a chosen moment of its writing.

Moments are counted by an audit hook of the interpreter: just before each rename or link in the route folder, and just after it, when the
folder is opened to be synced. Nothing in the product knows of it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, StaleWriter
from crossfade.rollout.routes import ModelRoute

Work = Callable[[EnvoyRouter], object]


def forkserver() -> ForkServerContext:
    """Children start in milliseconds and inherit no threads of the test."""
    context = multiprocessing.get_context("forkserver")
    # installed packages only, for the server does not know the tests' folders; whichever test comes first starts it for all
    context.set_forkserver_preload(["pytest", "crossfade.tick_command", "crossfade.ramp.tick", "crossfade.wiring"])
    return context


def change(name: str, share_bp: int) -> ModelRoute:
    return ModelRoute(name=name, models=(name,), share_bp=share_bp)


@dataclass(frozen=True)
class Apply:
    """Set one route's share; tries again, as anybody would, when another writer was quicker."""

    name: str
    share_bp: int

    def __call__(self, router: EnvoyRouter) -> object:
        while True:
            with suppress(StaleWriter):
                return router.apply(change(self.name, self.share_bp), expect=router.table().generation)


@dataclass(frozen=True)
class Trip:
    """Roll one route back."""

    name: str

    def __call__(self, router: EnvoyRouter) -> object:
        return router.trip(self.name, why="breach", by="guard", at_s=1.0)


@dataclass(frozen=True)
class ApplyForEver:
    """One verified change after the other; the share follows from the generation, so that any table can be checked alone."""

    name: str

    def __call__(self, router: EnvoyRouter) -> object:
        while True:
            generation = router.table().generation
            router.apply(change(self.name, share_of(generation + 1)), expect=generation)


def share_of(generation: int) -> int:
    return generation * 617 % 10_001


class Writer:
    """Does its work, standing still at each of the moments `at`. How it ended is in `outcome`."""

    def __init__(self, folder: Path, work: Work, *at: int) -> None:
        self._receiver, sender = multiprocessing.Pipe(duplex=False)
        self.process: BaseProcess = forkserver().Process(target=_write, args=(folder, work, at, sender))
        self.process.start()
        sender.close()

    def stands_still(self) -> bool:
        """Whether it reached its moment."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        return False

    def over(self) -> bool:
        return not self.process.is_alive()

    def go_on(self) -> None:
        """On to its next moment, or to its end."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.join(10)

    def signal(self, number: int) -> None:
        if self.process.pid and self.process.is_alive():
            os.kill(self.process.pid, number)

    def outcome(self) -> str:
        """Once it is over: the class of error it ended with, or `done`."""
        assert self._receiver.poll(30), "the writer said nothing"
        said = self._receiver.recv()
        self.process.join(10)
        return str(said)


def _write(folder: Path, work: Work, at: tuple[int, ...], sender: Connection) -> None:
    moments = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal moments
        if _is_moment(event, arguments, folder):
            moments += 1
            if moments - 1 in at:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(count)
    try:
        work(EnvoyRouter(folder))
    except CrossfadeError as error:
        sender.send(type(error).__name__)
    else:
        sender.send("done")


def _is_moment(event: str, arguments: tuple[object, ...], folder: Path) -> bool:
    if event in ("os.rename", "os.link"):  # a latch is linked into its place
        return Path(str(arguments[1])).is_relative_to(folder)
    if event == "open":  # (path, mode, flags)
        return Path(str(arguments[0])).is_relative_to(folder) and bool(int(str(arguments[2])) & os.O_DIRECTORY)
    return False
