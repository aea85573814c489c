"""How long a migration whose weights are there takes to reach its ramp, and what its flow run needs of memory.

    python benchmarks/migrate.py [--times 3] [--json FILE]

The demo's stack and plan with the demo's users, real engines. The first migration downloads and quantizes; it is rolled back and its
target stopped, and then the same plan is migrated again, `--times` times: weights are cached, vLLM starts anew each time.

    cached_to_ramp    `migrate` is asked for at Prefect's API -> the journal has the phase `rehearsed`: the next tick may raise
    flow_run_memory   the most that the run's process ever held (VmHWM), download and hand-offs to the gpu pool included
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import prefect
import psutil
from rows import Row, machine, quantile, report

from crossfade import processes
from crossfade.home import CHECKOUT
from crossfade.lab.demo import MIGRATION, start_clients
from crossfade.lab.prometheus import prometheus_binary
from crossfade.lab.stack import Lab, down
from crossfade.lab.up import plan_text, up
from crossfade.prefect_api import PrefectApi
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.phases import Phase
from crossfade.store import open_journal
from crossfade.wiring import open_bench

_GIVE_UP_S = 600
_LOOK_S = 0.3


@dataclass(frozen=True)
class Reached:
    """One migration up to its ramp: seconds from asking for it, and seconds at which each phase was entered; memory in bytes."""

    seconds: float
    phases: dict[str, float]
    memory_bytes: int


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="cached migrations after the first one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    measured_on = machine(prefect=prefect.__version__)
    with tempfile.TemporaryDirectory(prefix="cf-") as folder:
        lab = Lab(Path(folder))
        _share_what_was_installed(lab)
        try:
            up(lab, print)
            os.environ.update(lab.environment())
            clients = start_clients(lab)
            first, *cached = [_migrate(lab) for _ in range(1 + chosen.times)]
            processes.stop(clients, deadline_s=20)
        finally:
            down(lab, print)
    for number, one in enumerate((first, *cached)):
        print("cached" if number else "first", ", ".join(f"{phase} {at_s:.0f} s" for phase, at_s in one.phases.items()))
    took = [one.seconds for one in cached]
    rows = [
        Row("cached_to_ramp_max_s", max(took), "s", "<= 120", len(took)),
        Row("cached_to_ramp_median_s", quantile(took, 0.5), "s", n=len(took)),
        Row("first_to_ramp_s", first.seconds, "s"),
        Row("flow_run_memory_mib", max(one.memory_bytes for one in (first, *cached)) / 2**20, "MiB", "<= 300", 1 + len(took)),
    ]
    report("A migration up to its ramp", measured_on, rows, chosen.json)


def _share_what_was_installed(lab: Lab) -> None:
    """The environments and Prometheus of this checkout; what is missing is built there, before anything is measured."""
    tools = CHECKOUT / ".lab"
    os.environ.setdefault("CROSSFADE_ENVIRONMENTS", str(tools / "environments"))
    prometheus_binary(tools, print)
    (lab.folder / "prometheus").symlink_to(tools / "prometheus")


def _migrate(lab: Lab) -> Reached:
    """One attempt up to `rehearsed`; it is rolled back and its target stopped before this returns."""
    api, journal, asked_s, memory = PrefectApi(lab.prefect_api), open_journal(lab.home), time.time(), 0
    run_id = api.start("migrate/migrate", {"plan": plan_text(lab)})
    phases: dict[str, float] = {}
    while not (run := api.flow_run(run_id)).ended and time.time() - asked_s < _GIVE_UP_S:
        memory = max(memory, _memory_bytes(run_id))
        known = [state for state in journal.states() if state.name == MIGRATION and state.phase_since_s >= asked_s]
        phases |= {str(state.phase): state.phase_since_s - asked_s for state in known}
        time.sleep(_LOOK_S)
    if Phase.REHEARSED.value not in phases:
        raise TimeoutError(f"the run is {run.state}: {run.message}")
    bench = open_bench(MIGRATION)
    roll_back(bench.desk, MIGRATION, why="the benchmark has seen enough", by="benchmark")
    for program in lab.running():
        if program.name.startswith("target-"):
            processes.stop(program, deadline_s=20)
    return Reached(phases[Phase.REHEARSED.value], phases, memory)


def _engines(run_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _memory_bytes(run_id: str) -> int:
    """The most that any process of a run has held so far; 0 while there is none."""
    peaks = [0]
    for process in _engines(run_id):
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            continue
        peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return max(peaks)


if __name__ == "__main__":
    main()
