"""What a runtime is given and gives back, for any program that serves on a port."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from crossfade.errors import EngineDied
from crossfade.processes import Program

OWNER_SETTINGS = frozenset({"PATH", "HOME", "USER", "LANG", "TMPDIR"})
"""Variables that differ from shell to shell and say nothing about the program; they never make a running target another one."""


@dataclass(frozen=True)
class Launch:
    """A command line with its whole environment, and the loopback port it will serve on."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    port: int

    @property
    def fingerprint(self) -> str:
        """The same for the same program, whoever starts it from wherever."""
        own = {name: value for name, value in self.env.items() if name not in OWNER_SETTINGS}
        return hashlib.sha256(json.dumps([self.command, own], sort_keys=True).encode()).hexdigest()


class Origin(StrEnum):
    """How a target came to run."""

    STARTED = "started"
    ADOPTED = "adopted"  # it already ran, with the same command line


class Difference(StrEnum):
    """What to do when a target of that name runs with another command line."""

    REFUSE = "refuse"  # it may be serving users
    REPLACE = "replace"


@dataclass(frozen=True)
class RunningTarget:
    """A process that runs; whether it answers is `wait_ready`'s to say."""

    name: str
    url: str
    program: Program
    origin: Origin


class Probe(Protocol):
    """Asks the program for real work once; returns when it was done.

    Raises TemporaryError while it may still come, PermanentError when waiting is useless.
    """

    def __call__(self) -> object:
        """One attempt."""


class Finding(Protocol):
    """Why a program died, in words for a user."""

    @property
    def summary(self) -> str:
        """What happened."""

    @property
    def detail(self) -> str:
        """The line of the log that shows it."""

    @property
    def resolution(self) -> str:
        """What to do."""


class Diagnose(Protocol):
    """Reads a finding out of a log's tail and an exit code (negative for a signal, None where it cannot be known)."""

    def __call__(self, log_tail: str, exit_code: int | None, /) -> Finding:
        """One finding, never none."""


class EndedAtStart(EngineDied):
    """A target ended instead of becoming ready; `finding` is what its log says."""

    def __init__(self, message: str, finding: Finding) -> None:
        super().__init__(message)
        self.finding = finding
