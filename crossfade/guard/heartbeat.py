"""The guard's sign of life, a file: whoever raises a share looks at it first."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from crossfade.home import Home
from crossfade.plan.units import format_seconds
from crossfade.ports import Unwatched, Watching

POLL_S = 1.0
"""How often the guard looks."""

ALIVE_WITHIN_S = 10.0
"""Age at which a heartbeat stops counting: above the worst poll, in which a hanging Prometheus is waited for."""

_CLOCK_SKEW_S = 2.0


class BlindSince(BaseModel):
    """A route the guard cannot see, and why."""

    model_config = ConfigDict(frozen=True)

    since_s: float
    why: str


class Heartbeat(BaseModel):
    """What the guard knew at its last poll; times are seconds since the epoch. `listens` is the address of its webhook, if it has one."""

    model_config = ConfigDict(frozen=True)

    at_s: float
    pid: int
    routes: tuple[str, ...] = ()
    blind: dict[str, BlindSince] = {}
    listens: str = ""


@dataclass(frozen=True)
class GuardStatus:
    """Whether a guard watches. `why` says what is wrong or, when alive, what it watches; `blind` names routes it cannot see."""

    alive: bool
    why: str
    routes: tuple[str, ...] = ()
    blind: dict[str, BlindSince] = field(default_factory=dict)


def beat(home: Home, heartbeat: Heartbeat) -> None:
    """Leave a sign of life; raises OSError."""
    home.root.mkdir(parents=True, exist_ok=True)
    temporary = _file(home).with_suffix(".tmp")
    temporary.write_text(heartbeat.model_dump_json())
    temporary.replace(_file(home))


def guard_alive(home: Home, now_s: float) -> GuardStatus:
    """Whether the guard of this home has looked within the last `ALIVE_WITHIN_S` seconds."""
    start = "Start it with 'crossfade guard'."
    try:
        last = Heartbeat.model_validate_json(_file(home).read_text())
    except FileNotFoundError:
        return GuardStatus(alive=False, why=f"no guard ever ran in {home.root}. {start}")
    except (OSError, ValidationError) as error:
        return GuardStatus(alive=False, why=f"{_file(home)} cannot be read ({type(error).__name__}). {start}")
    age_s = now_s - last.at_s
    if age_s > ALIVE_WITHIN_S or age_s < -_CLOCK_SKEW_S:
        return GuardStatus(alive=False, why=f"the guard (pid {last.pid}) last looked {format_seconds(round(abs(age_s)))} ago. {start}")
    said = f"watching {', '.join(last.routes) or 'for routes with traffic on a target'}"
    return GuardStatus(alive=True, why=said, routes=last.routes, blind=dict(last.blind))


def my_heartbeat(at_s: float, routes: tuple[str, ...], blind: dict[str, BlindSince], listens: str = "") -> Heartbeat:
    """The heartbeat of this process."""
    return Heartbeat(at_s=at_s, pid=os.getpid(), routes=routes, blind=blind, listens=listens)


def _file(home: Home) -> Path:
    return home.root / "guard.json"


@dataclass(frozen=True)
class GuardPost:
    """`ports.Watchman` over the guard's sign of life."""

    home: Home

    def watches(self, route: str, *, now_s: float) -> Watching | Unwatched:
        """Unwatched when the guard is dead, late, or blind on this route."""
        status = guard_alive(self.home, now_s)
        if not status.alive:
            return Unwatched(status.why)
        if route in status.blind:
            return Unwatched(f"the guard cannot see {route}: {status.blind[route].why}")
        return Watching()
