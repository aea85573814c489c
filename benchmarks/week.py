"""What a week of ticks leaves on disk: in the journal, and in Prefect's database.

    python benchmarks/week.py [--part journal|prefect|both] [--ticks 10080] [--runs 60] [--json FILE]

The journal: one migration in its soak is ticked once a minute for a week, by the code that a real tick runs, into a real journal; only
the clock and the evidence are made up (each interval of 15 s shows 75 requests an engine, in all buckets the router has).

Prefect: real scheduled-like runs of `ramp/<migration>` through a real server and worker; what its SQLite file grew by, a run, times the
10,080 of a week. Then those runs are made two months old in the file, and the server is started with the settings of docs/operations.md.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import prefect
from rows import Row, machine, report
from ticks_lab import Stack, stack
from waiting import until

from crossfade import processes
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.names import BUCKETS_MS
from crossfade.envoy.router import EnvoyRouter
from crossfade.home import Home
from crossfade.judge.evidence import Blind, Counts, Histogram, Interval, Reading
from crossfade.lab.stack import Lab
from crossfade.plan.gates import MEASURES, Measure
from crossfade.plan.load import parse_plan
from crossfade.ports import Entry, Ready, Watching
from crossfade.ramp.logbook import Desk
from crossfade.ramp.tick import tick
from crossfade.rollout.names import ramp_deployment, route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import FULL_BP, ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

WEEK = 7 * 24 * 60
MIGRATION = "week/week"
PLAN = """
name: week
source: {url: "http://127.0.0.1:1"}
models: [{ollama: week, huggingface: a/b}]
gates:
  error_rate: {at_most: 1%}
  ttft_p95: {at_most: 500ms}
  duration_p95: {at_most: 8s}
  kv_cache: {promql: 'max(vllm:kv_cache_usage_perc)', below: 0.9}
soak: 1000h
"""
KEPT_SETTINGS = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(3 * 86400),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P3D",
}
"""What docs/operations.md says."""

_AT_ONCE = {"PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "5", "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "5"}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("journal", "prefect", "both"), default="both")
    parser.add_argument("--ticks", type=int, default=WEEK, help="of the journal's week")
    parser.add_argument("--runs", type=int, default=60, help="of Prefect's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    measured_on = machine(prefect=prefect.__version__)
    rows = list[Row]()
    with tempfile.TemporaryDirectory(prefix="cf-") as folder:
        if chosen.part != "prefect":
            rows += journal_week(Home(Path(folder) / "journal"), chosen.ticks)
        if chosen.part != "journal":
            rows += prefect_week(Lab(Path(folder) / "lab"), chosen.runs)
    report("A week of ticks, one a minute: what it leaves on disk", measured_on, rows, chosen.json)


class HandClock:
    """Time that moves only when told."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def now_s(self) -> float:
        """The time it was told."""
        return self.at_s

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.at_s += seconds


class Evidence:
    """A good target with steady traffic, and a source nobody asks any more."""

    def complete_intervals(
        self,
        route: str,  # noqa: ARG002
        *,
        since_s: float,
        now_s: float,
        every_s: float = 15.0,
        measures: frozenset[Measure] = MEASURES,  # noqa: ARG002
    ) -> Sequence[Interval] | Blind:
        """Whole intervals of the same counts."""
        starts = [since_s + every_s * index for index in range(int((now_s - since_s) / every_s + 1e-9))]
        counts = Counts(requests=75, ttft=_spread(75, 40), duration=_spread(75, 900))
        return [Interval(start_s=start, end_s=start + every_s, source=Counts(requests=0), target=counts) for start in starts]

    intervals = complete_intervals

    def read(self, gate: str, promql: str) -> Reading | Blind:  # noqa: ARG002
        """Well below every limit."""
        return Reading(gate=gate, value=0.25)


class Standing:
    """A guard that watches and a source that is warm."""

    def watches(self, route: str, *, now_s: float) -> Watching:  # noqa: ARG002
        """Always."""
        return Watching()

    def stands_ready(self) -> Ready:
        """Always."""
        return Ready()


def _spread(requests: int, median_ms: float) -> Histogram:
    """Cumulative counts over the router's own bounds."""
    below = [(float(bound), round(requests * bound**2 / (bound**2 + median_ms**2))) for bound in BUCKETS_MS]
    return (*below, (float("inf"), requests))


def journal_week(home: Home, ticks: int) -> list[Row]:
    """The file after so many ticks of one migration, write-ahead log included."""
    plan, clock = parse_plan(PLAN, origin="benchmark", folder=Path("/")).plan, HandClock(1_000_000.0)
    folder = RouteFolder(home.router)
    folder.prepare()
    folder.store(RouteTable(generation=1, routes=(ModelRoute(name=route_name(MIGRATION), models=("week",), share_bp=FULL_BP),)))
    journal, standing = SqlJournal(home.journal), Standing()
    begun = journal.begin(MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=clock.at_s, share_since_s=clock.at_s), PLAN)
    soaking = begun.model_copy(update={"phase": Phase.SOAKING, "step": len(plan.ramp.steps) - 1, "share_bp": FULL_BP})
    journal.move(soaking, Entry(MIGRATION, 1, clock.at_s, "note", "set by a benchmark", '{"why": "benchmark"}'))
    desk = Desk(
        plan=plan, journal=journal, router=EnvoyRouter(home.router), metrics=Evidence(), watchman=standing, standby=standing, clock=clock
    )
    began_s = time.perf_counter()
    for _ in range(ticks):
        clock.sleep(60)
        assert tick(desk, MIGRATION).did == "held"
    seconds = time.perf_counter() - began_s
    size = sum(file.stat().st_size for file in home.root.glob("journal.sqlite*"))
    return [
        Row("journal_week_mib", size / 2**20 * WEEK / ticks, "MiB", n=ticks),
        Row("journal_kib_a_tick", size / 1024 / ticks, "KiB", n=ticks),
        Row("tick_ms", 1000 * seconds / ticks, "ms", n=ticks),
    ]


def prefect_week(lab: Lab, runs: int) -> list[Row]:
    """What runs of a ramp leave in Prefect's database, and what is left of them after the documented clean-up."""
    database = lab.folder / "prefect" / "prefect.db"
    with stack(lab, migrations=4, scrape="1s") as started:
        for migration in started.migrations:
            parameters = {"migration": migration, "attempt": 1}
            name = ramp_deployment(migration)
            started.prefect.schedule(
                name, like="reconcile/reconcile", entrypoint="flows/ramp.py:ramp", every_s=86400, parameters=parameters
            )
        _round(started, len(started.migrations))  # what the first runs leave once, like the names of their events, is not counted
        before = _used(database)
        _round(started, runs)
        time.sleep(10)  # the events of the last run
        grown = _used(database) - before
        left, after = _cleaned(started, database)
    return [
        Row("prefect_week_mib", grown / runs * WEEK / 2**20, "MiB", n=runs),
        Row("prefect_kib_a_tick", grown / runs / 1024, "KiB", n=runs),
        Row("prefect_runs_left_after_clean_up", left, "runs", n=runs),
        Row("prefect_kib_after_clean_up", (after - before) / 1024, "KiB", n=runs),
    ]


def _round(started: Stack, runs: int) -> None:
    """So many ticks, one after the other of each migration, four at a time."""
    for first in range(0, runs, len(started.migrations)):
        batch = started.migrations[: runs - first]
        ids = [started.prefect.start(ramp_deployment(migration), {}) for migration in batch]
        until("four ticks to end", lambda ids=ids: all(started.prefect.flow_run(run_id).ended for run_id in ids), within_s=600, each_s=0.25)


def _used(database: Path) -> int:
    """Bytes in use, free pages left out, the write-ahead log counted in."""
    with sqlite3.connect(database, timeout=60) as connection:
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")]
    return int((values[0] - values[1]) * values[2])


def _cleaned(started: Stack, database: Path) -> tuple[int, int]:
    """Runs and bytes left after all runs were made two months old and the server was started with the documented settings."""
    lab = started.lab
    for part in ("worker-crossfade", "prefect-server"):
        program = processes.find(part, lab.home.processes)
        assert program
        processes.stop(program, deadline_s=20)
    with sqlite3.connect(database, timeout=60) as connection:
        for table, column in (("flow_run", "end_time"), ("events", "occurred"), ("log", "timestamp"), ("artifact", "created")):
            connection.execute(f"UPDATE {table} SET {column} = datetime({column}, '-60 days')")  # noqa: S608 - our own words
    address = ("--host", "127.0.0.1", "--port", str(lab.ports.prefect))
    lab.start("prefect-server", sys.executable, "-m", "crossfade.prefect_server", *address, extra=KEPT_SETTINGS | _AT_ONCE)
    give_up_s = time.monotonic() + 180
    left = -1
    ended = {"flows": {"name": {"any_": ["ramp"]}}, "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}}  # those to come stay
    while left and time.monotonic() < give_up_s:
        time.sleep(2)
        try:
            left = int(httpx.post(f"{lab.prefect_api}/flow_runs/count", json=ended, timeout=20).json())
        except (httpx.HTTPError, ValueError, TypeError):
            continue
    time.sleep(15)  # a round for what hung on them
    return left, _used(database)


if __name__ == "__main__":
    main()
