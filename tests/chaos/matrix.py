"""What `make chaos` runs: each process killed at each boundary of a rising tick, with users on the route; the table goes to docs/chaos.md.

    python tests/chaos/matrix.py [--write FILE]

Tick, guard, Prometheus and Envoy are real processes and die by SIGKILL; engines and users are on bare sockets. The tick stands still at
the boundary while another process is killed, then goes on; what was killed is started again, and ticks follow until the step is done.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1] / "envoy"))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from chaos_cases import KILLS
from chaos_checks import agree, nothing_is_lost_or_doubled
from chaos_forked import ForkedTick
from chaos_stand import STEPS_BP, Case, Stand, Start, eventually
from rows import machine

from crossfade import processes
from crossfade.envoy.process import NAME as ENVOY
from crossfade.guard.heartbeat import guard_alive

VICTIMS = ("envoy", "tick", "guard", "prometheus")
BOUNDARIES = [failpoint for about, failpoint in KILLS if about == "rise"]
_TICKS = 5


@dataclass(frozen=True)
class Outcome:
    """What became of one kill."""

    victim: str
    boundary: str
    ended: str
    asked: int
    lost: int
    seconds: float


class Chaos:
    """The stand with a real guard on it."""

    def __init__(self, root: Path, cases: list[Case]) -> None:
        self.stand = Stand(root, guarded=True)
        self.stand.open(cases)
        self.start("guard")

    def start(self, victim: str) -> None:
        """Start what was killed; a tick is started by what follows."""
        if victim == "envoy":
            self.stand.start_envoy()
        elif victim == "prometheus":
            self.stand.start_prometheus()
        elif victim == "guard":
            home = self.stand.home
            env = {"PATH": os.environ["PATH"], "CROSSFADE_HOME": str(home.root), "CROSSFADE_GUARD_LISTEN": "off", "HOME": str(home.root)}
            command = [sys.executable, "-m", "crossfade.guard"]
            processes.start("guard", command, records=home.processes, log=home.logs / "guard.log", env=env)

    def kill(self, victim: str) -> None:
        """SIGKILL, no goodbye."""
        program = processes.recorded(ENVOY if victim == "envoy" else victim, self.stand.home.processes)
        assert program, f"no {victim} runs"
        dying = psutil.Process(program.pid)
        dying.kill()
        dying.wait(10)

    def at(self, boundary: str, case: Case) -> ForkedTick:
        """A tick that stands still there. On a busy machine one may hold instead, because the guard just saw nothing: then the next one."""
        for left in reversed(range(_TICKS)):
            eventually(lambda: self._watched(case), within_s=60)
            try:
                return self.stand.tick(case, stops_at=boundary)
            except AssertionError as error:
                if "held" not in str(error) or not left:
                    raise
        raise AssertionError(f"never came by {boundary}")

    def one(self, victim: str, boundary: str, case: Case) -> Outcome:
        """One kill and what follows; raises AssertionError when a promise is broken."""
        stand = self.stand
        stand.begin(case, ready=case.number > 1)
        asked, lost, began_s = stand.users.asked, len(stand.users.failed), time.monotonic()
        standing = self.at(boundary, case)
        if victim == "tick":
            os.kill(standing.pid, signal.SIGKILL)
        else:
            self.kill(victim)
            os.kill(standing.pid, signal.SIGCONT)
        standing.wait()
        self.start(victim)
        ticks = 0
        while ticks < _TICKS and stand.journal.state(case.migration).share_bp == STEPS_BP[0]:
            eventually(lambda: self._watched(case), within_s=60)
            standing = stand.tick(case)
            standing.wait()
            ticks += 1
        share_bp = agree(stand, case)
        nothing_is_lost_or_doubled(stand, case)
        said = {STEPS_BP[1]: "went on", 0: "rolled back"}.get(share_bp, f"holds: {standing.said()[:120]}")
        ended = f"{said}, {ticks} tick{'' if ticks == 1 else 's'} later" if ticks else f"{said}, in the same tick"
        took_s = time.monotonic() - began_s
        stand.router.trip(case.route, why="its test is over", by="test", at_s=time.time())  # the guard has one route less to look at
        return Outcome(victim, boundary, ended, stand.users.asked - asked, len(stand.users.failed) - lost, took_s)

    def _watched(self, case: Case) -> bool:
        status = guard_alive(self.stand.home, time.time())
        return status.alive and case.route in status.routes and case.route not in status.blind


def main() -> None:
    """Kill, check, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="the table, as Markdown")
    chosen = parser.parse_args()
    measured_on = machine()
    plan = [(victim, boundary) for victim in VICTIMS for boundary in BOUNDARIES]
    cases = [Case(number, Start()) for number in range(1, len(plan) + 1)]
    with tempfile.TemporaryDirectory(prefix="cf-") as folder:
        os.environ["CROSSFADE_HOME"] = folder
        os.environ.pop("CROSSFADE_JOURNAL", None)
        chaos, outcomes = Chaos(Path(folder), cases), list[Outcome]()
        try:
            for (victim, boundary), case in zip(plan, cases, strict=True):
                outcomes.append(chaos.one(victim, boundary, case))
                print(outcomes[-1], flush=True)  # noqa: T201
        finally:
            chaos.stand.close()
    if chosen.write:
        chosen.write.write_text(as_text(measured_on, outcomes))
    if any(outcome.lost for outcome in outcomes if outcome.victim != "envoy"):
        sys.exit("requests were lost although no router was killed")


def as_text(measured_on: dict[str, str | int | float], outcomes: list[Outcome]) -> str:
    """The page as it is committed."""
    busy = measured_on["cpu_busy_before_pct"]
    rows = [f"| {one.victim} | `{one.boundary}` | {one.ended} | {one.asked:,} | {one.lost} | {one.seconds:.1f} |" for one in outcomes]
    return "\n".join(
        [
            "# Chaos",
            "",
            f"`make chaos` on {measured_on['cpu']}, {measured_on['cores']} cores, of which others kept {busy} % busy before the start;",
            f"{time.strftime('%Y-%m-%d')}, {len(outcomes)} kills. What is killed, how, and what is checked after each, is in",
            "`tests/chaos/matrix.py`: shares sum to 10000 in the route file and in Envoy's own dump, both agree with the journal, its",
            "chain is whole, every decision follows from its evidence, none is there twice, and no evidence was judged twice.",
            "",
            "| killed | while the tick stood at | the migration | requests meanwhile | lost | s |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "* Boundaries are named in `crossfade/failpoints.py`; `:2` is the second time the tick comes by.",
            "* Killing Envoy loses what it had in flight, and what is sent until it is started again: here by this script, after the tick",
            "  has ended. Every other row must lose nothing.",
            "* Not in this table yet: kills of vLLM, of the Prefect server and of its worker.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
