"""Named moments between two writes at which a test may kill or stop the process, to show that dying there loses nothing.

Outside of tests they do nothing: both variables must be set when the process starts. `CROSSFADE_FAILPOINT=after-intent` means the first
time the process comes by, `after-intent:2` the second. The process is killed as `kill -9` would; with CROSSFADE_FAILPOINT_STOP=1 it
stands still until somebody sends SIGCONT.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Failpoint = Literal[
    "before-decision",  # the judge has spoken, nobody wrote it down
    "after-decision",  # it is in the journal, nobody acted on it
    "in-move",  # inside the journal's transaction that moves a migration, before its commit
    "after-move",  # just after that commit
    "in-record",  # inside the journal's transaction that only appends, before its commit
    "after-record",  # just after that commit
    "before-intent",  # a share is about to change
    "after-intent",  # the intent is in the journal, the route file is as it was
    "before-rename",  # the router has checked the table, the route file is as it was
    "after-rename",  # the route file has the new share, nobody has seen the router route by it
    "after-verify",  # the router shows the new share, the journal does not know
    "after-outcome",  # the journal knows
    "before-latch",  # a rollback is about to mark its route
    "after-latch",  # the route is marked, its share is still in the route file
    "after-share-0",  # the route file has the source at 100 %, nobody has seen the router route by it
    "after-trip",  # the router shows the source at 100 %, the journal does not know
    "after-rolling-back",  # the journal has the rollback's beginning
    "after-rolled-back",  # and its end
    "before-soaking",  # all users are on the target, the soak has not begun
    "after-soaking",  # it has begun
    "before-soak",  # a tick of the soak is about to be counted
    "before-finished",  # the soak is over, the journal does not know
    "before-settling",  # somebody's unfinished move was found and is about to be written down
    "before-lowering",  # the route has more than the journal knows of and is about to be lowered
    "after-lowering",  # it was lowered, the journal does not know
]
NAMES: tuple[Failpoint, ...] = get_args(Failpoint)


@dataclass
class _Armed:
    """Where this process is to end, how often it may still come by before, and how it ends."""

    name: str
    passes: int
    signal: signal.Signals


def _armed(environment: Mapping[str, str]) -> _Armed | None:
    told = environment.get("CROSSFADE_FAILPOINT", "")
    if not told or environment.get("CROSSFADE_FAILPOINT_ALLOW") != "1":
        return None
    name, _, times = told.partition(":")
    if name not in NAMES:
        raise ValueError(f"CROSSFADE_FAILPOINT={told}: no such failpoint; there are {', '.join(NAMES)}")
    stops = environment.get("CROSSFADE_FAILPOINT_STOP") == "1"
    return _Armed(name, int(times or 1) - 1, signal.SIGSTOP if stops else signal.SIGKILL)


_ARMED = _armed(os.environ)


def reach(name: Failpoint) -> None:
    """End this process here if a test asked for it; otherwise nothing."""
    if _ARMED is not None and _ARMED.name == name:
        if _ARMED.passes == 0:
            # to this thread: sent to the process, another thread may take it, and this one goes on for a moment
            signal.pthread_kill(threading.get_ident(), _ARMED.signal)
        _ARMED.passes -= 1
