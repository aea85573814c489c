"""Kills of the Prefect server and of its worker, while a tick that the worker started for a deployment stands at a boundary.

Server, worker and deployments are the lab's own. The worker dies with everything it started, so with the tick; the server is started
again at once, as a supervisor does, and meanwhile the tick goes on. Whatever run Prefect takes for RUNNING then is freed by the guard's
reaper, which is told to wait 2 s instead of a minute. Each row ends with one more run that completes: the ramp is ticking again.

A run takes some 8 s to start, so a row takes 25 s. What a killed tick leaves at each of the eleven boundaries is in the rows of `tick`;
Prefect knows nothing of boundaries, so here it is one of each kind: nothing written, in a transaction of the journal, the intent there,
the route file there, in force, all written down.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
from chaos_kills import Chaos, cases_of, kill_all
from chaos_stand import STEPS_BP, Case, Stand
from flow_stand import Stand as Flows
from flow_stand import engines_of, until

from crossfade import processes
from crossfade.guard.prefect_http import PrefectHttp
from crossfade.guard.reaper import Reaper
from crossfade.lab.prefect_server import deploy_all, make_pools, start_server, start_workers, wait_for_server
from crossfade.lab.stack import Lab

BOUNDARIES = ("before-decision", "in-move", "after-intent", "after-rename", "after-verify", "after-outcome")
_RECORDS = {"prefect server": "prefect-server", "worker": "worker-crossfade"}


class WithPrefect(Chaos):
    """The stand, its ticks carried out by Prefect."""

    def __init__(self, lab: Lab, kills: int) -> None:
        super().__init__(Stand(lab.home.root, guarded=True, every="60s"))  # a run that waited longer than one interval does nothing
        self.lab = lab
        start_server(lab)
        self.stand.open(cases_of(kills))
        self.start_guard(PREFECT_API_URL=lab.prefect_api)
        wait_for_server(lab, print)
        make_pools(lab)
        deploy_all(lab)
        start_workers(lab, ["crossfade"])
        self.flows, self.reaper = Flows(lab, ""), Reaper(PrefectHttp(), shortest_s=2)

    def start(self, victim: str) -> None:
        """Start what was killed."""
        if victim == "worker":
            start_workers(self.lab, ["crossfade"])
        else:
            wait_for_server(self.lab, print)

    def follow(self, victim: str, boundary: str, case: Case) -> str:
        """Kill, start again, and tick until a run has completed."""
        self.flows.deploy(case.migration)
        run = self.insisting(case, lambda: self.standing(case, boundary))
        program = processes.recorded(_RECORDS[victim], self.stand.home.processes)
        assert program, f"no {victim} runs"
        if victim == "worker":
            kill_all([*processes.family(program), *engines_of(run)])
        else:
            kill_all(processes.family(program))
            for process in engines_of(run):
                process.send_signal(signal.SIGCONT)
        self.start(victim)
        until(f"the tick of run {run} to end", 90, lambda: not engines_of(run))
        same_tick = self.share_bp(case) != STEPS_BP[0]
        freed, ticks = self.tick_again(case)
        left = "; the guard freed its run" if run in freed else ""
        return self.said(case, 0 if same_tick else ticks, otherwise="") + left

    def standing(self, case: Case, boundary: str) -> str:
        """A run of its ramp that stands still there."""
        where = {"CROSSFADE_FAILPOINT": boundary, "CROSSFADE_FAILPOINT_ALLOW": "1", "CROSSFADE_FAILPOINT_STOP": "1"}
        run = self.flows.tick(case.migration, where)

        def stands() -> bool:
            return any(process.status() == psutil.STATUS_STOPPED for process in engines_of(run))

        until(f"run {run} to stand still", 90, lambda: stands() or self.flows.prefect.flow_run(run).ended)
        assert stands(), f"never came by {boundary}: {self.flows.prefect.flow_run(run).message}"
        return run

    def tick_again(self, case: Case) -> tuple[set[str], int]:
        """Runs that the reaper freed, and how many completed until the step was done: one at least."""
        freed, ticks, give_up_s = set[str](), 0, time.monotonic() + 150
        while not ticks or (self.share_bp(case) == STEPS_BP[0] and ticks < 5):
            assert time.monotonic() < give_up_s, f"{case.migration} is not ticking again"
            freed |= {one.run for one in self.reaper.reap(mine=case.migration.__eq__, now_s=time.time())}
            until("the guard to watch", 60, lambda: self.watched(case) or self.share_bp(case) == 0)
            ticks += self.flows.ended(self.flows.tick(case.migration)).state == "COMPLETED"
        return freed, ticks


def with_prefect(folder: Path, kills: int) -> WithPrefect:
    """A lab's Prefect around the stand's router, journal and Prometheus."""
    lab = Lab(folder)
    os.environ["CROSSFADE_HOME"] = str(lab.home.root)
    os.environ["PREFECT_API_URL"] = lab.prefect_api
    return WithPrefect(lab, kills)
