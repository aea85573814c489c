"""Logs of programs that run for months: what is read of them is their end, and no file grows without limit.

A program writes to a file that `processes.start` opened for appending, and knows nothing of us. So its log is copied aside and cut to
nothing while it writes: the next line begins the file anew. What it writes in the microseconds between the last look at the file and
the cut is lost, and nothing else.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LOG_LIMIT = 64 << 20
"""Bytes of a log before it is cut; with what was cut the last time a program holds twice as much."""

_TAIL_BYTES = 1 << 20


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, also where it was cut since; empty when there is none."""
    found = _end_of(log)
    if found.count("\n") < lines:
        found = _end_of(cut_from(log)) + found
    return "\n".join(found.splitlines()[-lines:])


def cut_from(log: Path) -> Path:
    """Where the part of a running program's log lies that was cut off last."""
    return log.with_suffix(".cut.log")


def bound(log: Path, *, limit: int = LOG_LIMIT) -> bool:
    """Cut a log of more than `limit` bytes, and say whether it was. Its last `limit` bytes stay in `cut_from`.

    Safe at any moment: killed before the cut, the log is whole and the next call does the same again.
    """
    try:
        if log.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    aside = cut_from(log).with_suffix(".tmp")
    with log.open("r+b") as running, aside.open("wb") as kept:
        running.seek(max(0, os.fstat(running.fileno()).st_size - limit))
        shutil.copyfileobj(running, kept)
        kept.flush()
        aside.replace(cut_from(log))
        shutil.copyfileobj(running, kept)  # what was written meanwhile
        kept.flush()
        running.truncate(0)
    return True


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as found:
            size = os.fstat(found.fileno()).st_size
            found.seek(max(0, size - _TAIL_BYTES))
            return found.read().decode(errors="replace")
    except OSError:
        return ""
