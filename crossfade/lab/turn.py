"""One command at a time may change a lab, and none may be interrupted while it cleans up."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossfade.errors import UserError


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lab's lock; raises UserError at once when another command holds it. The kernel frees it when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another crossfade command is at work in {folder}. Wait for it, or end it with Ctrl-C where it runs."
            ) from None
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C, a polite kill and a closed terminal inside: a second one must not leave half of a lab running."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
