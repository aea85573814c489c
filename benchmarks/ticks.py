"""Whether ticks come in time: twenty scheduled ramps on one machine, and a thousand migrations ticked by one sweep.

    python benchmarks/ticks.py [--part ramps|sweep|both] [--minutes 15] [--ramps 20] [--migrations 1000] [--json FILE]

Real Prefect server, worker, Envoy and Prometheus; engines that answer at once. All migrations have a tenth of their requests on the
target, every model is asked all the time, and each tick reads, counts and judges what came since the last one and journals its ruling.

    ticks_late    a run of `ramp/<migration>` that began its flow over 30 s after the time it was scheduled for, or never
    sweep_1000    the run of `sweep/sweep`, from the start of its flow to its end; every migration was due. The first sweep writes the
                  rules and the beginning of the memory of each migration, as the stages before a ramp do; it has a row of its own
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import resource_tracker
from pathlib import Path

import httpx
import prefect
import psutil
from rows import Row, machine, quantile, report
from ticks_lab import Stack, stack, users
from waiting import until

from crossfade.lab.stack import Lab
from crossfade.rollout.names import ramp_deployment

LATE_S = 30.0
EVERY_S = 60.0
EVIDENCE_S = 75.0
"""Time with users before the sweep, so that each tick has some intervals to judge."""


@dataclass(frozen=True)
class Run:
    """A scheduled run. `late_s` is infinite for one that never began; `state` is how it ended."""

    late_s: float
    state: str


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("ramps", "sweep", "both"), default="both")
    parser.add_argument("--minutes", type=float, default=15, help="how long the scheduled ramps go on")
    parser.add_argument("--ramps", type=int, default=20, help="how many of them")
    parser.add_argument("--migrations", type=int, default=1000, help="how many the sweep ticks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    measured_on = machine(prefect=prefect.__version__)
    resource_tracker.ensure_running()  # now, or it would count as one of the lab's processes and be ended with them
    rows = list[Row]()
    if chosen.part != "sweep":
        rows += scheduled_ramps(chosen.ramps, chosen.minutes)
    if chosen.part != "ramps":
        rows += sweeps(chosen.migrations)
    report("Ticks: are they in time?", measured_on, rows, chosen.json)


@contextmanager
def lab_of(*, migrations: int, scrape: str) -> Iterator[Stack]:
    """A stack in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="cf-") as folder, stack(Lab(Path(folder)), migrations=migrations, scrape=scrape) as started:
        yield started


def scheduled_ramps(count: int, minutes: float) -> list[Row]:
    """Every migration on the schedule `migrate` would have made for it, all made in one go."""
    with lab_of(migrations=count, scrape="1s") as started, users(started, 100):
        began_s = time.time()
        for migration in started.migrations:
            schedule(started, migration)
        cpu_before = worker_cpu_s(started)
        until_s = time.time() + 60 * minutes
        while time.time() < until_s:
            time.sleep(1)
        ended_s = time.time()
        cpu_s = worker_cpu_s(started) - cpu_before
        time.sleep(LATE_S + 5)  # what was scheduled just before the end has its time, too
        runs = [run for migration in started.migrations for run in runs_of(started, migration, began_s, ended_s)]
    late = sum(run.late_s > LATE_S for run in runs)
    began = [run.late_s for run in runs if math.isfinite(run.late_s)]
    odd = [run.state for run in runs if run.state != "Completed"]
    print(f"{len(runs)} runs; not completed: {odd or 'none'}", flush=True)
    return [
        Row("ticks_late_pct", 100 * late / len(runs), "%", "<= 1", len(runs)),
        Row("ticks_not_completed_pct", 100 * len(odd) / len(runs), "%", n=len(runs)),
        Row("tick_start_median_s", quantile(began, 0.5), "s", n=len(began)),
        Row("tick_start_p99_s", quantile(began, 0.99), "s", n=len(began)),
        Row("tick_start_max_s", max(began), "s", n=len(began)),
        Row("cpu_s_a_tick", cpu_s / len(began), "s", n=len(began)),
    ]


def schedule(started: Stack, migration: str) -> None:
    """The deployment with its schedule, as the last stage of `migrate` makes it."""
    parameters = {"migration": migration, "attempt": 1}
    name = ramp_deployment(migration)
    started.prefect.schedule(name, like="reconcile/reconcile", entrypoint="flows/ramp.py:ramp", every_s=60, parameters=parameters)


def worker_cpu_s(started: Stack) -> float:
    """CPU seconds of the worker and of all its children so far, also those that have ended."""
    [worker] = [program for program in started.lab.running() if program.name == "worker-crossfade"]
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def runs_of(started: Stack, migration: str, since_s: float, until_s: float) -> list[Run]:
    """The runs that were scheduled for this time, whatever became of them."""
    with httpx.Client(base_url=started.lab.prefect_api, timeout=60, trust_env=False) as client:
        deployment = client.get(f"/deployments/name/{ramp_deployment(migration)}").raise_for_status().json()
        wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found = client.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    runs = []
    for run in found:
        due_s = _epoch_s(run["expected_start_time"]) if not run["next_scheduled_start_time"] else _epoch_s(run["next_scheduled_start_time"])
        if run["auto_scheduled"] and since_s <= due_s <= until_s:
            late_s = _epoch_s(run["start_time"]) - due_s if run["start_time"] else math.inf
            runs.append(Run(max(0.0, late_s), str(run["state"]["name"])))
    return runs


def sweeps(count: int) -> list[Row]:
    """Two runs of the deployment over migrations that are all due: the first one they ever see, and the one after it."""
    with lab_of(migrations=count, scrape="15s") as started, users(started, 200):
        time.sleep(EVIDENCE_S)
        first_s, first_from_asked_s = _one_sweep(started, count, rulings=1)
        time.sleep(EVERY_S)  # all of them are due again
        usual_s, usual_from_asked_s = _one_sweep(started, count, rulings=2)
    return [
        Row(f"sweep_{count}_s", usual_s, "s", "<= 30" if count == 1000 else "", count),
        Row(f"sweep_{count}_from_asked_s", usual_from_asked_s, "s", n=1),
        Row(f"sweep_{count}_of_new_migrations_s", first_s, "s", n=count),
        Row(f"sweep_{count}_of_new_migrations_from_asked_s", first_from_asked_s, "s", n=1),
    ]


def _one_sweep(started: Stack, count: int, *, rulings: int) -> tuple[float, float]:
    """Seconds of the run, and from asking for it to its end. Afterwards each migration has so many rulings."""
    asked_s = time.time()
    run_id = started.prefect.start("sweep/sweep", {"within_s": 600})
    until("the sweep to end", lambda: started.prefect.flow_run(run_id).ended, within_s=900, each_s=0.5)
    run = started.prefect.flow_run(run_id)
    print(run.state, run.message, flush=True)
    found = httpx.get(f"{started.lab.prefect_api}/flow_runs/{run_id}", timeout=60, trust_env=False).raise_for_status().json()
    lacking = sum(len(started.journal.entries(name, kind="decision")) != rulings for name in started.migrations)
    assert not lacking, f"{lacking} of {count} have not {rulings} rulings: {run.message}"
    return float(found["total_run_time"]), run.ended_s - asked_s


def _epoch_s(iso: str) -> float:
    return datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    main()
