"""One kill and what follows: the tick stands still at a boundary, the victim dies by SIGKILL, and ticks go on until the step is done."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
from chaos_cases import KILLS
from chaos_checks import agree, nothing_is_lost_or_doubled
from chaos_forked import ForkedTick
from chaos_stand import STEPS_BP, Case, Stand, Start, eventually

from crossfade import processes
from crossfade.envoy.process import NAME as ENVOY
from crossfade.guard.heartbeat import guard_alive

TICKS = 5
EVERY_BOUNDARY = tuple(failpoint for about, failpoint in KILLS if about == "rise")

Standing = TypeVar("Standing")


@dataclass(frozen=True)
class Outcome:
    """What became of one kill. `cut` is the part of `lost` whose first byte had come."""

    victim: str
    boundary: str
    ended: str
    asked: int
    lost: int
    seconds: float
    cut: int = 0


def cases_of(kills: int) -> list[Case]:
    """A rising migration for each kill."""
    return [Case(number, Start()) for number in range(1, kills + 1)]


class Chaos:
    """The stand with a real guard on it; here ticks are bare processes, and tick, guard, Prometheus or Envoy is killed."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand

    def start(self, victim: str) -> None:
        """Start what was killed; a tick is started by what follows."""
        if victim == "envoy":
            self.stand.start_envoy()
        elif victim == "prometheus":
            self.stand.start_prometheus()
        elif victim == "guard":
            self.start_guard()

    def start_guard(self, **more: str) -> None:
        """The guard, `more` in its environment."""
        home = self.stand.home
        env = {"PATH": os.environ["PATH"], "CROSSFADE_HOME": str(home.root), "CROSSFADE_GUARD_LISTEN": "off", "HOME": str(home.root)}
        command = [sys.executable, "-m", "crossfade.guard"]
        processes.start("guard", command, records=home.processes, log=home.logs / "guard.log", env=env | more)

    def kill(self, victim: str) -> None:
        """SIGKILL, no goodbye."""
        program = processes.recorded(ENVOY if victim == "envoy" else victim, self.stand.home.processes)
        assert program, f"no {victim} runs"
        kill_all(processes.family(program))

    def one(self, victim: str, boundary: str, case: Case) -> Outcome:
        """One kill and what follows; raises AssertionError when a promise is broken."""
        stand = self.stand
        self.begin(case)
        users, began_s = stand.users, time.monotonic()
        asked, failed, cut = users.asked, len(users.failed), len(users.cut)
        ended = self.follow(victim, boundary, case)
        agree(stand, case)
        nothing_is_lost_or_doubled(stand, case)
        failed, cut, took_s = len(users.failed) - failed, len(users.cut) - cut, time.monotonic() - began_s
        stand.router.trip(case.route, why="its test is over", by="test", at_s=time.time())  # the guard has one route less to look at
        return Outcome(victim, boundary, ended, users.asked - asked, failed + cut, took_s, cut)

    def begin(self, case: Case) -> None:
        """What all their users have seen so far proves every migration, so only the first one waits for it."""
        self.stand.begin(case, ready=case.number > 1)

    def follow(self, victim: str, boundary: str, case: Case) -> str:
        """Kill, start again, tick until the step is done; how it ended."""
        standing = self.at(boundary, case)
        if victim == "tick":
            os.kill(standing.pid, signal.SIGKILL)
        else:
            self.kill(victim)
            os.kill(standing.pid, signal.SIGCONT)
        standing.wait()
        self.start(victim)
        ticks = 0
        while ticks < TICKS and self.share_bp(case) == STEPS_BP[0]:
            eventually(lambda: self.watched(case), within_s=60)
            standing = self.stand.tick(case)
            standing.wait()
            ticks += 1
        return self.said(case, ticks, otherwise=standing.said())

    def at(self, boundary: str, case: Case) -> ForkedTick:
        """A tick that stands still there."""
        return self.insisting(case, lambda: self.stand.tick(case, stops_at=boundary))

    def insisting(self, case: Case, begin: Callable[[], Standing]) -> Standing:
        """On a busy machine a tick may hold instead, because the guard just saw nothing: then the next one."""
        for left in reversed(range(TICKS)):
            eventually(lambda: self.watched(case), within_s=60)
            try:
                return begin()
            except AssertionError as error:
                if "held" not in str(error) or not left:
                    raise
        raise AssertionError("it never stood still")

    def share_bp(self, case: Case) -> int:
        """The share that the journal knows of."""
        return self.stand.journal.state(case.migration).share_bp

    def said(self, case: Case, ticks: int, *, otherwise: str) -> str:
        """How it ended, in the table's words."""
        share_bp = self.share_bp(case)
        what = "rolled back" if share_bp == 0 else "went on" if share_bp > STEPS_BP[0] else f"holds: {otherwise[:120]}"
        return f"{what}, {ticks} tick{'' if ticks == 1 else 's'} later" if ticks else f"{what}, in the same tick"

    def watched(self, case: Case) -> bool:
        """Whether the guard looks at its route and sees something."""
        status = guard_alive(self.stand.home, time.time())
        return status.alive and case.route in status.routes and case.route not in status.blind

    def close(self) -> None:
        """Stop everything."""
        self.stand.close()


def kill_all(dying: list[psutil.Process]) -> None:
    """SIGKILL to each of them, and wait until none is left."""
    for process in dying:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _, left = psutil.wait_procs(dying, timeout=10)
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]


def bare(folder: Path, kills: int) -> Chaos:
    """Ticks without Prefect, engines on bare sockets."""
    chaos = Chaos(Stand(folder, guarded=True))
    chaos.stand.open(cases_of(kills))
    chaos.start_guard()
    return chaos
