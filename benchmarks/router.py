"""What the router costs, how quick a share changes, and whether anybody notices.

    python benchmarks/router.py [--quick] [--json FILE]

Everything runs on this machine in one run; what is compared takes turns, so that a busy moment hits all alike. nginx, HAProxy
and LiteLLM take part where they are on PATH, wrk makes the load where it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from contenders import MODEL, MODELS, WORKERS, Bench, everything, fill_table
from load import Burst, Client, Turn, body, counting_losses, full_load, request, time_requests, watching
from rows import Row, machine, quantile, report

from crossfade.envoy.binary import envoy_binary
from crossfade.envoy.router import EnvoyRouter
from crossfade.rollout.routes import ModelRoute

EVENTS = 40
_ROUTE_FILE = "rds.json"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    requests: int
    bursts: int
    changes: int
    trips: int
    soak: int
    without: tuple[str, ...] = ()


WHOLE = Size(requests=3_000, bursts=3, changes=200, trips=100, soak=1_000)
QUICK = Size(requests=1_000, bursts=1, changes=50, trips=20, soak=60, without=("litellm",))


class Renames:
    """When the route file was last renamed into place, on the monotonic clock. The interpreter itself tells, just before it does so."""

    def __init__(self) -> None:
        self.at_ns = 0
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).endswith(_ROUTE_FILE):
            self.at_ns = time.monotonic_ns()


RENAMES = Renames()


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute instead of four; the numbers are rougher")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    size = QUICK if chosen.quick else WHOLE
    measured_on = machine(envoy=_envoy_version(), load="wrk" if shutil.which("wrk") else "own client", workers=WORKERS)
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder, everything(Path(folder), without=size.without) as bench:
        for name, why in bench.left_out.items():
            print(f"left out: {name}: {why}")
        small = share_changes(bench, size.changes // 2)
        fill_table(bench.router)
        rows = [*latency(bench, size), *throughput(bench, size), *changes(bench, size), *losses(bench, size)]
    rows.append(Row("share_change_one_model_median_ms", quantile(small.seen_ms, 0.5), "ms", n=len(small.seen_ms)))
    rows.append(Row("share_change_one_model_p99_ms", quantile(small.seen_ms, 0.99), "ms", n=len(small.seen_ms)))
    report(f"Router: {MODELS} models in the table, bodies of 1.3 kB, everything on one machine", measured_on, rows, chosen.json)


def latency(bench: Bench, size: Size) -> list[Row]:
    """One connection, one request at a time, the contenders in turns of 100 requests."""
    clients = {name: Client(address) for name, address in bench.addresses.items()}
    wire, times = request(body(MODEL)), defaultdict[str, list[float]](list)
    for client in clients.values():
        time_requests(client, wire, count=100, at_most_s=1)
    for _ in range(size.requests // 100):
        for name, client in clients.items():
            times[name] += time_requests(client, wire, count=100, at_most_s=0.25)
    for client in clients.values():
        client.close()
    median = {name: quantile(found, 0.5) for name, found in times.items()}
    p99 = {name: quantile(found, 0.99) for name, found in times.items()}
    ratio = median["crossfade"] / median["bare_envoy"]
    rows = [Row("router_median_vs_bare_envoy", ratio, "ratio", "<= 1.5", len(times["crossfade"]))]
    rows += [
        Row("direct_median_ms", median["direct"], "ms", n=len(times["direct"])),
        Row("direct_p99_ms", p99["direct"], "ms", n=len(times["direct"])),
    ]
    for name in (name for name in times if name != "direct"):
        rows.append(Row(f"{name}_added_median_ms", median[name] - median["direct"], "ms", n=len(times[name])))
        rows.append(Row(f"{name}_added_p99_ms", p99[name] - p99["direct"], "ms", n=len(times[name])))
    return rows


def throughput(bench: Bench, size: Size) -> list[Row]:
    """Sixteen connections busy all the time, the contenders in turns of two seconds; the median of the turns."""
    bursts = defaultdict[str, list[Burst]](list)
    for _ in range(size.bursts):
        for name, address in bench.addresses.items():
            bursts[name].append(full_load(address, body(MODEL), connections=16, seconds=2, folder=bench.folder))
    return [
        Row(f"{name}_rps_16", quantile([one.requests / one.seconds for one in found], 0.5), "1/s", n=sum(one.requests for one in found))
        for name, found in bursts.items()
    ]


@dataclass(frozen=True)
class Changes:
    """Of each change: the whole apply, and rename of the route file to first answer; and how many requests came too late to one."""

    applied_ms: list[float]
    seen_ms: list[float]
    old_answers_afterwards: int


def share_changes(bench: Bench, count: int) -> Changes:
    """From nothing to everything and back, while one client asks about every millisecond and notes when the engine changes."""
    applied, seen, late = list[float](), list[float](), 0
    _set(bench.router, 0)
    with watching(bench.addresses["crossfade"], request(body(MODEL))) as watcher:
        _turns_to(watcher, "source")
        for number in range(count):
            share_bp, engine = ((10_000, "target"), (0, "source"))[number % 2]
            applied.append(_set(bench.router, share_bp))
            done_ns = time.monotonic_ns()
            turns = _turns_to(watcher, engine)
            seen.append((turns[0].answered_ns - RENAMES.at_ns) / 1e6)
            late += turns[-1].other_asked_ns > done_ns
    return Changes(applied, seen, late)


def changes(bench: Bench, size: Size) -> list[Row]:
    """Applies to and fro, then trips."""
    made, tripped, seen = share_changes(bench, size.changes), list[float](), list[float]()
    with watching(bench.addresses["crossfade"], request(body(MODEL))) as watcher:
        for _ in range(size.trips):
            bench.router.resume(MODEL)
            _set(bench.router, 10_000)
            _turns_to(watcher, "target")
            began_ns = time.monotonic_ns()
            bench.router.trip(MODEL, why="benchmark", by="benchmark", at_s=0)
            tripped.append((time.monotonic_ns() - began_ns) / 1e6)
            seen.append((_turns_to(watcher, "source")[0].answered_ns - began_ns) / 1e6)
    bench.router.resume(MODEL)
    return [
        Row("share_change_p99_ms", quantile(made.seen_ms, 0.99), "ms", "<= 5", len(made.seen_ms)),
        Row("share_change_median_ms", quantile(made.seen_ms, 0.5), "ms", n=len(made.seen_ms)),
        Row("apply_p95_ms", quantile(made.applied_ms, 0.95), "ms", "<= 500", len(made.applied_ms)),
        Row("apply_median_ms", quantile(made.applied_ms, 0.5), "ms", n=len(made.applied_ms)),
        Row("trip_p95_ms", quantile(tripped, 0.95), "ms", "<= 50", len(tripped)),
        Row("trip_median_ms", quantile(tripped, 0.5), "ms", n=len(tripped)),
        Row("trip_to_first_answer_p95_ms", quantile(seen, 0.95), "ms", n=len(seen)),
        Row("applies_with_old_answers_afterwards", made.old_answers_afterwards, "count", n=len(made.applied_ms)),
    ]


def losses(bench: Bench, size: Size) -> list[Row]:
    """Share changes in a row, two verified applies and a trip in turn, under load; whatever fails or is cut is lost."""
    short, long = request(body(MODEL)), request(body(MODEL, stream=True, events=EVENTS))
    applied, tripped = list[float](), list[float]()
    with counting_losses(bench.addresses["crossfade"], short, long, events=EVENTS) as end:
        for number in range(size.soak):
            if number % 3 < 2:
                applied.append(_set(bench.router, number * 617 % 9_999 + 1))
            else:
                began = time.perf_counter()
                bench.router.trip(MODEL, why="benchmark", by="benchmark", at_s=0)
                tripped.append((time.perf_counter() - began) * 1e3)
                bench.router.resume(MODEL)
        seen = end()
    return [
        Row("lost_requests", seen.failed + seen.cut, "count", "0", seen.requests + seen.streams),
        Row("share_changes_under_load", size.soak, "count"),
        Row("streams_under_load", seen.streams, "count"),
        Row("apply_under_load_p95_ms", quantile(applied, 0.95), "ms", n=len(applied)),
        Row("trip_under_load_p95_ms", quantile(tripped, 0.95), "ms", n=len(tripped)),
    ]


def _envoy_version() -> str:
    printed = subprocess.run([str(envoy_binary()), "--version"], capture_output=True, text=True, check=True).stdout
    return printed.strip().rpartition("version: ")[2].split("/")[1]


def _set(router: EnvoyRouter, share_bp: int) -> float:
    """Milliseconds of one whole verified apply."""
    table = router.table()
    change: ModelRoute = table.route(MODEL).model_copy(update={"share_bp": share_bp})
    began = time.perf_counter()
    router.apply(change, expect=table.generation)
    return (time.perf_counter() - began) * 1e3


def _turns_to(watcher: Connection, engine: str) -> list[Turn]:
    """Turns to that engine until there is quiet; more than one when a request after the first was still answered by the other."""
    turns = list[Turn]()
    while not turns or watcher.poll(0.01):
        assert watcher.poll(10), f"no answer of {engine}"
        turn = watcher.recv()
        if turn.engine == engine:
            turns.append(turn)
    return turns


if __name__ == "__main__":
    main()
