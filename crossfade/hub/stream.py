"""One file of a repository: fetched, hashed as it comes, and continued where an earlier try ended.

What has arrived lies in a part file until it is whole, written piece by piece as it comes, so a killed process loses nothing.
Nothing is trusted for being there: the prefix of a part file and a file that looks complete are hashed too.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from crossfade.hub.access import Access
from crossfade.hub.asking import asking
from crossfade.hub.failures import told_delay_s
from crossfade.hub.repository import RepositoryFile, ResolvedRepository
from crossfade.weights import WeightFile

PARTS = ".parts"
TRIES = 5
"""Attempts in a row that bring nothing new before the file is given up; the stage may be retried after that."""

_SEGMENT_BYTES = 8 * 2**30  # the hub's plain downloads end at 50 GB a request
_READ_BYTES = 1 << 20
_LONGEST_WAIT_S = 300.0


class Stopped(Exception):
    """Another file failed for good, or the download stands still; this one ends early and keeps what it has."""


@dataclass
class FileStream:
    """Fetches one file. `count` is told every byte that is on disk and, below 0, what was thrown away; `stop` ends waiting and reading."""

    resolved: ResolvedRepository
    file: RepositoryFile
    folder: Path
    access: Access
    count: Callable[[int], None]
    stop: threading.Event
    backoff_s: float = 1.0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, init=False)
    _done: int = field(default=0, init=False)

    def fetch(self) -> WeightFile:
        """The file in its place with its size and hash, which the caller compares with the record.

        Raises what the hub's client raises when trying again does not help, Stopped, or OSError of the disk.
        """
        place, part = self.folder / self.file.path, part_of(self.folder, self.file.path)
        if place.is_file():
            there = self._hashed(place)
            if same(self.file, there, self.folder):
                return there
            place.unlink()
            self._forget()
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as output:
            output.seek(0)
            self._read(output)
            if self._done > self.file.bytes:  # cannot be of this file
                self._begin_anew(output)
            self._complete(output)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
        return WeightFile(path=self.file.path, bytes=self._done, sha256=self._digest.hexdigest())

    def _complete(self, output: BinaryIO) -> None:
        """Ask for what is missing until it is all here."""
        failures = 0
        while self._done < self.file.bytes:
            before = self._done
            try:
                self._ask(output)
                if self._done == before:
                    raise httpx2.RemoteProtocolError("the answer was empty")
            except (httpx2.TransportError, HfHubHTTPError) as error:
                failures = 0 if self._done > before else failures + 1
                delay_s = _worth_waiting(error, self.backoff_s * 2 ** max(0, failures - 1))
                if delay_s is None or failures >= TRIES:
                    raise
                if self.stop.wait(delay_s if failures else 0.0):
                    raise Stopped from None

    def _ask(self, output: BinaryIO) -> None:
        """One request, for the rest of the file or the next segment of it."""
        whole = self._done == 0 and self.file.bytes <= _SEGMENT_BYTES
        span = None if whole else (self._done, min(self._done + _SEGMENT_BYTES, self.file.bytes) - 1)
        with asking(self.resolved, self.file.path, self.access, span=span) as response:
            if self._done and response.status_code != 206:  # a mirror that ignores ranges sends the whole file
                self._begin_anew(output)
            for piece in response.iter_raw():
                self._go_on()
                output.write(piece)
                output.flush()  # a killed process loses nothing, and one that gives up late writes nothing more
                self._take(piece)
                if self._done > self.file.bytes:
                    return  # more than the hub recorded: the size alone shows that it is broken

    def _read(self, source: BinaryIO) -> None:
        while piece := source.read(_READ_BYTES):
            self._go_on()
            self._take(piece)

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _take(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._done += len(piece)
        self.count(len(piece))

    def _begin_anew(self, output: BinaryIO) -> None:
        output.seek(0)
        output.truncate()
        self._forget()

    def _forget(self) -> None:
        self.count(-self._done)
        self._digest, self._done = hashlib.sha256(), 0

    def _hashed(self, path: Path) -> WeightFile:
        with path.open("rb") as source:
            self._read(source)
        return WeightFile(path=self.file.path, bytes=self._done, sha256=self._digest.hexdigest())


def part_of(folder: Path, name: str) -> Path:
    """Where what has arrived of a file lies until it is whole."""
    return folder / PARTS / f"{name}.part"


def same(file: RepositoryFile, actual: WeightFile, folder: Path) -> bool:
    """Whether what lies in the folder is what the hub recorded."""
    if file.bytes != actual.bytes:
        return False
    return file.sha256 == actual.sha256 if file.sha256 else file.recorded(folder / file.path)


def _worth_waiting(error: httpx2.TransportError | HfHubHTTPError, backoff_s: float) -> float | None:
    """Seconds to wait before trying again; None when that would not help, or is longer than a stage should sleep."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status not in (408, 429) and status < 500:
            return None
        told = told_delay_s(error)
        delay_s = backoff_s if told is None else told
        return delay_s if delay_s <= _LONGEST_WAIT_S else None
    return min(backoff_s, 30.0)
