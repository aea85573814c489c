"""The Envoy processes of one route folder: the one that serves, those that drain after a handover, and who is who after a crash.

Records of `crossfade.processes`:

    router              serves; writing this record is the moment at which a handover has happened
    router-next         started by a handover that has not happened yet
    router-drain-ID     replaced, and finishing what it had begun

Everything else follows from these, so that whoever holds the folder's lock can complete what a killed process of ours left.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from crossfade import processes
from crossfade.envoy import discovery
from crossfade.envoy.admin import Admin
from crossfade.envoy.boot import Boot
from crossfade.envoy.folder import RouteFolder
from crossfade.errors import PermanentError, Unreachable
from crossfade.home import Home
from crossfade.processes import Program

NAME = "router"
"""Of the process record, for `processes.find` and `processes.stop`."""

NEXT = "router-next"
_DRAINING = "router-drain-"
_STOP_S = 5.0


@dataclass(frozen=True)
class Member:
    """One Envoy process, and which one it is."""

    program: Program
    boot: Boot


def serving(folder: RouteFolder, home: Home) -> Member | None:
    """The process that serves, with everything a killed handover left put in order; only under the folder's lock."""
    program = processes.find(NAME, home.processes)
    left = processes.find(NEXT, home.processes)
    if left and not _same(left, program):
        processes.stop(left, deadline_s=_STOP_S)
    processes.forget(NEXT, home.processes)
    for replaced in draining(home):
        if _same(replaced, program):  # recorded as replaced, but the handover never happened
            processes.forget(replaced.name, home.processes)
        else:
            _continue_drain(replaced, folder, home)
    member = Member(program, Boot.of_process(program.pid)) if program else None
    if member:
        folder.switch(member.boot)
    tidy(folder, home)
    return member


def take_over(old: Member, new: Member, folder: RouteFolder, home: Home) -> tuple[Member, Member]:
    """Make `new` the one that serves and `old` one that drains; returns them in this order, under their new names. Under the lock."""
    replaced = replace(old.program, name=_DRAINING + old.boot.id)
    serves = replace(new.program, name=NAME)
    processes.record(replaced, home.processes)
    processes.record(serves, home.processes)
    processes.forget(NEXT, home.processes)
    folder.switch(new.boot)
    return Member(serves, new.boot), Member(replaced, old.boot)


def dismiss(program: Program, folder: RouteFolder, home: Home) -> None:
    """End a process that has drained or never served, and forget it."""
    processes.stop(program, deadline_s=_STOP_S)
    processes.forget(program.name, home.processes)
    tidy(folder, home)


def tidy(folder: RouteFolder, home: Home) -> None:
    """Tell Prometheus who is there, and remove the files of those who are not; none while there is one that cannot be told."""
    boots = []
    there = [found for name in (NAME, NEXT) if (found := processes.find(name, home.processes))] + draining(home)
    for program in there:
        with suppress(PermanentError):
            boots.append(Boot.of_process(program.pid))
    discovery.announce(folder, boots)
    if len(boots) == len(there):
        folder.keep_only(boots)


def _continue_drain(replaced: Program, folder: RouteFolder, home: Home) -> None:
    """Go on where its handover was killed; without waiting, so it ends here only if it has nothing left to do."""
    try:
        admin = Admin(Boot.of_process(replaced.pid).admin_socket(folder.path))
        admin.drain()
        traffic = admin.traffic()
    except (Unreachable, PermanentError):
        return
    if not traffic.accepting and not traffic.requests:
        dismiss(replaced, folder, home)


def draining(home: Home) -> list[Program]:
    """Replaced processes that have not ended yet."""
    found = []
    for file in sorted(home.processes.glob(f"{_DRAINING}*.json")):
        program = processes.find(file.stem, home.processes)
        if program:
            found.append(program)
        else:
            file.unlink(missing_ok=True)
    return found


def _same(one: Program, other: Program | None) -> bool:
    return other is not None and (one.pid, one.started_s) == (other.pid, other.started_s)
