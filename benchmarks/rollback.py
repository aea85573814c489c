"""How long a failing target keeps its users: real Envoy, Prometheus, guard process, Prefect server and worker.

    python benchmarks/rollback.py [--breaches 50] [--loaded] [--json FILE]

One breach after the other: all users are on the target, the fault proxy answers 503, the guard rolls back, and its event starts the
rollback run of prefect.yaml. `--loaded` does it all again while every core is kept busy by two other processes. Times:

    guard_rollback     the first sample in Prometheus at which the plan's hard rule fires -> Envoy's own dump has the source at 100 %
    fault_to_source    the fault -> the same
    event_rollback     the guard's event -> the rollback run, which has verified the source at 100 %, has ended
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
from load import Client, body, request
from rows import Row, machine, quantile, report
from waiting import until

from crossfade.envoy.router import EnvoyRouter
from crossfade.guard.heartbeat import guard_alive
from crossfade.guard.outbox import Notice
from crossfade.home import CHECKOUT
from crossfade.judge.breach import Breach, hard_breach
from crossfade.judge.evidence import Blind
from crossfade.lab.prefect_server import deploy_all, make_pools, start_server, wait_for_server
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.lab.stack import Lab, down
from crossfade.plan.load import parse_plan
from crossfade.plan.model import Plan
from crossfade.ports import Entry
from crossfade.prefect_api import PrefectApi
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.wiring import start_router

MODEL, MIGRATION = "bench", "bench/bench"
ROUTE = route_name(MIGRATION)
EVERY_S = 0.02
HEALTHY_S = 5.0
"""Time with traffic on a healthy target before each breach: the guard counts nothing of the 3 s after a latch was lifted."""

_LOOK_S = 0.01
_WAY = (
    Phase.ASSESSED,
    Phase.OBSERVING,
    Phase.DOWNLOADED,
    Phase.QUANTIZED,
    Phase.SERVING,
    Phase.PROVEN,
    Phase.REHEARSED,
    Phase.RAMPING,
)


@dataclass(frozen=True)
class Rollback:
    """One breach, in seconds."""

    guard_s: float
    fault_s: float
    event_s: float


@dataclass(frozen=True)
class Bench:
    """The running stack."""

    lab: Lab
    plan: Plan
    digest: str
    text: str
    router: EnvoyRouter
    journal: SqlJournal
    metrics: PrometheusMetrics
    prefect: PrefectApi


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--breaches", type=int, default=50, help="how many, each about half a minute")
    parser.add_argument("--loaded", action="store_true", help="do them again with every core busy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    chosen = parser.parse_args()
    measured_on = machine()
    resource_tracker.ensure_running()  # now, or it would count as one of the lab's processes and be ended with them
    with tempfile.TemporaryDirectory(prefix="cf-") as folder, stack(Lab(Path(folder))) as bench, users(bench) as count:
        rows = rows_of([one_breach(bench, number) for number in range(chosen.breaches)], "")
        if chosen.loaded:
            with busy_cores():
                rows += rows_of([one_breach(bench, number) for number in range(chosen.breaches)], "_loaded")
        asked, failed = count()
    rows.append(Row("requests_users_saw_fail", failed, "count", "0", asked))
    report("Rollback: from a failing target to the source at 100 %", measured_on, rows, chosen.json)


def rows_of(found: list[Rollback], suffix: str) -> list[Row]:
    """The promised rows, and what there is to compare them with."""
    rows = list[Row]()
    for name, values, bar in (
        ("guard_rollback", [one.guard_s for one in found], "<= 3"),
        ("event_rollback", [one.event_s for one in found], "<= 30"),
        ("fault_to_source", [one.fault_s for one in found], ""),
    ):
        rows.append(Row(f"{name}{suffix}_p95_s", quantile(values, 0.95), "s", bar, len(values)))
        rows.append(Row(f"{name}{suffix}_median_s", quantile(values, 0.5), "s", n=len(values)))
        rows.append(Row(f"{name}{suffix}_max_s", max(values), "s", n=len(values)))
    return rows


def one_breach(bench: Bench, number: int) -> Rollback:
    """All users on the target, the fault, and everybody's part in the way back."""
    attempt = new_attempt(bench)
    healthy_until_s = time.time() + HEALTHY_S
    until("a healthy target", lambda: time.time() >= healthy_until_s and target_is_healthy(bench), within_s=120, each_s=0.1)
    broken_s = time.time()
    break_target(bench, error_share=1)
    until("the guard's rollback", lambda: not bench.router.observed().route(ROUTE).share_bp, within_s=120, each_s=_LOOK_S)
    back_s = time.time()
    break_target(bench)
    fires_s = first_sample_that_fires(bench, broken_s, attempt)
    event_s, verified_s = rollback_run(bench, attempt, broken_s)
    measured = Rollback(back_s - fires_s, back_s - broken_s, verified_s - event_s)
    print(
        f"{number + 1}: guard {measured.guard_s:.2f} s, from the fault {measured.fault_s:.2f} s, event {measured.event_s:.2f} s", flush=True
    )
    return measured


def new_attempt(bench: Bench) -> int:
    """The next attempt of the migration, ramping at 100 %, in journal and router; the guard has read it. Returns its number."""
    now_s = time.time()
    state = bench.journal.begin(
        MigrationState(name=MIGRATION, plan_digest=bench.digest, phase_since_s=now_s, share_since_s=now_s), bench.text
    )
    for phase in _WAY:
        moved = state.with_phase(phase, now_s=time.time(), because="benchmark")
        if phase is Phase.RAMPING:
            moved = moved.model_copy(update={"step": len(bench.plan.ramp.steps) - 1, "share_bp": 10_000})
        state = bench.journal.move(moved, _entry(moved))
    bench.router.resume(ROUTE)
    change = ModelRoute(name=ROUTE, models=(MODEL,), share_bp=10_000)
    bench.router.apply(change, expect=bench.router.table().generation)
    return state.attempt


def first_sample_that_fires(bench: Bench, broken_s: float, attempt: int) -> float:
    """The time of the first sample after the fault on which the plan's hard rule fires.

    The guard's breach, as the journal has it, ends with such a sample; the samples before it are judged anew over the same evidence,
    because the guard may have come too late to them.
    """
    give_up_s = time.time() + 60
    while not (breaches := [e for e in bench.journal.entries(MIGRATION) if (e.kind, e.attempt) == ("breach", attempt)]):
        assert time.time() < give_up_s, "the guard wrote no breach into the journal"
        time.sleep(0.1)
    judged = Notice.model_validate_json(breaches[0].body).intervals
    since_s, last_s = judged[0].start_s, judged[-1].end_s
    asked = {"query": f'envoy_cf_requests{{route="{ROUTE}"}}[{int(last_s - broken_s) + 5}s]', "time": f"{last_s:.3f}"}
    answer = httpx.get(f"{bench.plan.prometheus.url}/api/v1/query", params=asked, timeout=20, trust_env=False).json()["data"]["result"]
    for at_s in sorted({float(at_s) for series in answer for at_s, _ in series["values"] if broken_s <= float(at_s) < last_s}):
        found = bench.metrics.intervals(ROUTE, since_s=since_s, now_s=at_s + 0.001)
        if not isinstance(found, Blind) and isinstance(hard_breach(bench.plan.guard, found), Breach):
            return at_s
    return last_s


def rollback_run(bench: Bench, attempt: int, since_s: float) -> tuple[float, float]:
    """When the event was, and when the run it started had ended with the source verified."""
    give_up_s = time.time() + 180
    while time.time() < give_up_s:
        runs = [run for run in bench.prefect.runs_of("rollback") if run.parameters.get("attempt") == str(attempt) and run.ended]
        events = bench.prefect.events("crossfade.sla.breached", since_s=since_s)
        for run in runs:
            assert run.state == "COMPLETED", f"the rollback run ended {run.state}: {run.message}\n{_end_of_worker_log(bench)}"
        if runs and events:
            assert "source" in runs[-1].message, runs[-1].message
            assert bench.journal.state(MIGRATION).phase is Phase.ROLLED_BACK
            return events[-1].occurred_s, runs[-1].ended_s
        time.sleep(0.25)
    raise AssertionError(f"no rollback run of attempt {attempt} ended within 180 s\n{_end_of_worker_log(bench)}")


def _end_of_worker_log(bench: Bench) -> str:
    return "\n".join((bench.lab.home.logs / "worker-crossfade.log").read_text().splitlines()[-60:])


def break_target(bench: Bench, **faults: float) -> None:
    """Set the fault proxy's faults; none heals it."""
    httpx.post(f"http://127.0.0.1:{bench.lab.ports.fault_control}/faults", json=faults, timeout=10, trust_env=False).raise_for_status()


def target_is_healthy(bench: Bench) -> bool:
    """Whether the router sends requests to the target again, and Prometheus knows it."""
    asked = {"query": 'envoy_cluster_membership_healthy{envoy_cluster_name="target"}'}
    answer = httpx.get(f"{bench.plan.prometheus.url}/api/v1/query", params=asked, timeout=20, trust_env=False).json()["data"]["result"]
    return bool(answer) and all(float(series["value"][1]) >= 1 for series in answer)


@contextmanager
def stack(lab: Lab) -> Iterator[Bench]:
    """Everything running: engines, fault proxy, router, Prometheus, Prefect with the deployments of prefect.yaml, and the guard."""
    before = dict(os.environ)
    try:
        os.environ.update(lab.environment())
        ports, text = lab.ports, plan_text(lab)
        source = parse_plan(text, origin="benchmark", folder=lab.folder)
        (lab.folder / "plan.yaml").write_text(text)
        start_server(lab)
        lab.start("engines", sys.executable, str(Path(__file__).with_name("upstream.py")), str(ports.source), str(ports.target))
        proxy = ("--port", str(ports.fault_proxy), "--upstream", f"127.0.0.1:{ports.target}", "--control", str(ports.fault_control))
        lab.module("fault-proxy", "crossfade.lab.fault_proxy", *proxy)
        start_router(lab.home, source.plan)
        binary = prometheus_binary(CHECKOUT / ".lab", print)
        targets = [ScrapeTarget("crossfade-router", str(lab.home.router / "prometheus.json"))]
        records, logs = lab.home.processes, lab.home.logs
        url = start_prometheus(binary, lab=lab.folder, port=ports.prometheus, targets=targets, records=records, logs=logs)
        wait_for_server(lab, print)
        make_pools(lab)
        deploy_all(lab)
        arguments = ("--pool", "crossfade", "--type", "process", "--name", "bench")
        lab.start("worker-crossfade", sys.executable, "-m", "prefect", "worker", "start", *arguments)
        lab.start("guard", sys.executable, "-m", "crossfade.guard", extra={"CROSSFADE_GUARD_LISTEN": "off"})
        wait_until_scraping(url, 60)
        until("the guard", lambda: guard_alive(lab.home, time.time()).alive, within_s=60, each_s=0.1)
        metrics = PrometheusMetrics(url, timeout_s=10, stale_after_s=1e6)
        router, journal, prefect_api = EnvoyRouter(lab.home.router), SqlJournal(lab.home.journal), PrefectApi(lab.prefect_api)
        prefect_api.pause_deployment("reconcile/reconcile")  # `new_attempt` puts users on the target with no intent: it would lower them
        yield Bench(lab, source.plan, source.digest, text, router, journal, metrics, prefect_api)
    finally:
        down(lab, print)
        os.environ.clear()
        os.environ.update(before)


def plan_text(lab: Lab) -> str:
    """A plan whose guard is the shipped default, only with the lab's ports."""
    ports = lab.ports
    return (
        f"name: bench\nsource: {{url: 'http://127.0.0.1:{ports.source}'}}\n"
        f"models: [{{ollama: '{MODEL}', huggingface: lab/model}}]\n"
        f"target: {{runtime: {{kind: process, port: {ports.target}}}, reach: '127.0.0.1:{ports.fault_proxy}'}}\n"
        f"router: {{kind: envoy, listen: '127.0.0.1:{ports.router}', metrics_listen: '127.0.0.1:{ports.router_metrics}'}}\n"
        f"prometheus: {{url: 'http://127.0.0.1:{ports.prometheus}', timeout: 2s, stale_after: 10s}}\n"
        "gates: {error_rate: {at_most: 1%}}\n"
    )


@contextmanager
def users(bench: Bench) -> Iterator[Callable[[], tuple[int, int]]]:
    """A user who asks fifty times a second, in a process of its own; what is yielded ends it and returns how many asked and failed."""
    context = multiprocessing.get_context("spawn")
    stop, (mine, theirs) = context.Event(), context.Pipe()
    user = context.Process(target=_ask, args=(bench.plan.router.listen, stop, theirs), daemon=True)
    user.start()

    def count() -> tuple[int, int]:
        stop.set()
        assert mine.poll(60), "the user did not end"
        asked, failed = mine.recv()
        return int(asked), int(failed)

    try:
        yield count
    finally:
        stop.set()
        user.join(5)
        user.kill()


def _ask(address: str, stop: Event, results: Connection) -> None:
    client, wire, asked, failed = None, request(body(MODEL)), 0, 0
    while not stop.wait(EVERY_S):
        asked += 1
        try:
            client = client or Client(address)
            client.ask(wire)
        except OSError:
            client, failed = None, failed + 1
    results.send((asked, failed))


@contextmanager
def busy_cores() -> Iterator[None]:
    """Two processes a core that do nothing but compute."""
    context = multiprocessing.get_context("spawn")
    spinners = [context.Process(target=_spin, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()


def _spin() -> None:
    number = 1
    while True:
        number = number * 3 % 1_000_003


def _entry(state: MigrationState) -> Entry:
    return Entry(state.name, state.attempt, state.phase_since_s, "phase", str(state.phase), '{"why": "benchmark"}')


if __name__ == "__main__":
    main()
