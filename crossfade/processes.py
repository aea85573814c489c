"""Start a program that outlives us, find it again, and stop it with a deadline.

A record `<name>.json` holds pid and start time, so that a reused pid is never taken for ours. Each program leads its own
session: stopping it stops its children too. This is for the lab and for machines without a supervisor; production
uses systemd or an orchestrator (DESIGN section 10).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from crossfade.errors import ToolMissing
from crossfade.logs import LOG_LIMIT, bound, tail

MARK = "CROSSFADE_LAB"
"""Environment variable that names the lab a process belongs to, so that `crossfade down` finds it without a record."""


_STARTED: list[subprocess.Popen[bytes]] = []
"""Kept, because a Popen that is thrown away takes the exit code of a child that died at once with it, and the diagnosis needs that."""


@dataclass(frozen=True)
class Program:
    """A running program. `started_s` is the kernel's start time; with `pid` it identifies the process for ever."""

    name: str
    pid: int
    started_s: float
    log: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started_s) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of what it printed."""
        return tail(Path(self.log), lines)


def mark() -> dict[str, str]:
    """The mark of the lab we run in, to hand on to a program that inherits nothing else; empty outside a lab."""
    return {MARK: os.environ[MARK]} if MARK in os.environ else {}


def start(name: str, command: Sequence[str], *, records: Path, log: Path, env: Mapping[str, str], cwd: Path | None = None) -> Program:
    """Start `command` with exactly `env`, its output appended to `log`, and write its record into `records`.

    Raises ToolMissing when the program cannot be started at all.
    """
    records.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolMissing(f"cannot start {name}: {command[0]}: {error.strerror}. 'crossfade doctor' says what is missing.") from None
    _STARTED.append(child)
    program = Program(name, child.pid, psutil.Process(child.pid).create_time(), str(log))
    record(program, records)
    return program


def record(program: Program, records: Path) -> None:
    """Write `<name>.json`, in the place of whatever program had that name."""
    file = records / f"{program.name}.json"
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(program)))
    temporary.replace(file)


def forget(name: str, records: Path) -> None:
    """Remove the record of that name, if there is one; the program runs on."""
    (records / f"{name}.json").unlink(missing_ok=True)


def find(name: str, records: Path) -> Program | None:
    """The program of that name if it still runs, else None."""
    program = recorded(name, records)
    return program if program and program.alive() else None


def recorded(name: str, records: Path) -> Program | None:
    """The program of that name, also when it has ended; None without a readable record."""
    try:
        return Program(**json.loads((records / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def bound_logs(records: Path, *, limit: int = LOG_LIMIT) -> tuple[str, ...]:
    """Cut the logs that have grown beyond `limit` bytes, of all recorded programs; returns the names of those that were cut."""
    found = (recorded(file.stem, records) for file in sorted(records.glob("*.json")))
    return tuple(program.name for program in found if program and bound(Path(program.log), limit=limit))


def unrecorded(name: str, log: Path) -> Program | None:
    """The program that leads a session of its own and writes to `log`: its starter died before it wrote the record."""
    for process in psutil.process_iter():
        try:
            leads = os.getsid(process.pid) == process.pid
            if leads and Path(f"/proc/{process.pid}/fd/1").readlink() == log.resolve() and process.status() != psutil.STATUS_ZOMBIE:
                return Program(name, process.pid, process.create_time(), str(log))
        except (OSError, psutil.NoSuchProcess):  # somebody else's, or gone
            continue
    return None


def stop(program: Program, *, deadline_s: float) -> None:
    """End the program: SIGTERM to its leader, then SIGKILL to whatever of its session is left after `deadline_s`.

    What a leader left behind that is dead already gets the SIGTERM itself.
    """
    members = family(program)
    end(members, first=[program.pid] if program.alive() else [member.pid for member in members], deadline_s=deadline_s)


def end(found: Collection[psutil.Process], *, first: Collection[int], deadline_s: float) -> None:
    """SIGTERM to the pids in `first`, then SIGKILL to whatever of `found` is left after `deadline_s`."""
    for pid in first:
        _signal(pid, signal.SIGTERM)
    left = _still_there(found, deadline_s)
    for process in left:
        _signal(process.pid, signal.SIGKILL)
    _still_there(left, 5)


def stop_all(records: Path, *, deadline_s: float) -> tuple[str, ...]:
    """Stop every recorded program and what is left of those that died, newest first; removes the records.

    Returns the names of those of which something ran.
    """
    stopped = []
    for file in sorted(records.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        program = recorded(file.stem, records)
        if program and family(program):
            stop(program, deadline_s=deadline_s)
            stopped.append(program.name)
        file.unlink(missing_ok=True)
    return tuple(stopped)


def family(program: Program) -> list[psutil.Process]:
    """The leader, its children, and everything else in its session, also after the leader has died."""
    if _is_somebody_elses(program.pid, program.started_s):
        return []
    members = {}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == program.pid and process.status() != psutil.STATUS_ZOMBIE:
                members[process.pid] = process
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return list(members.values())


def _still_there(found: Collection[psutil.Process], deadline_s: float) -> list[psutil.Process]:
    """Those that run after `deadline_s`. A zombie whose parent does not look does not run."""
    give_up_s, left = time.monotonic() + deadline_s, list(found)
    while left and time.monotonic() < give_up_s:
        _, left = psutil.wait_procs(left, timeout=min(0.1, deadline_s))
        left = [process for process in left if not _is_zombie(process)]
    return left


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _is_somebody_elses(pid: int, started_s: float) -> bool:
    """Whether the pid was given to another process since; the kernel does that only once the old session is empty."""
    if started_s < psutil.boot_time() - 1:
        return True
    try:
        return abs(psutil.Process(pid).create_time() - started_s) >= 1
    except psutil.NoSuchProcess:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
