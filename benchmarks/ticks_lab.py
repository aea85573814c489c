"""Many migrations on one machine: their routes, journal and users, over the real router, Prometheus, Prefect server and worker."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
from load import Client, body, request

from crossfade.envoy.folder import RouteFolder
from crossfade.home import CHECKOUT
from crossfade.lab.prefect_server import deploy_all, make_pools, start_server, wait_for_server
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.lab.stack import Lab, down
from crossfade.plan.load import parse_plan
from crossfade.ports import Entry
from crossfade.prefect_api import PrefectApi
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.wiring import start_router

SHARE_BP = 1000
_FIRST_STEP = 1


@dataclass(frozen=True)
class Stack:
    """What runs, and the names of the migrations."""

    lab: Lab
    prefect: PrefectApi
    journal: SqlJournal
    migrations: tuple[str, ...]
    router: str


def name_of(number: int) -> str:
    """The name of a plan and of its model."""
    return f"m{number:04d}"


def plan_text(lab: Lab, name: str) -> str:
    """A plan as it is usual: two gates counted at the router and one number of the target's, a tick a minute."""
    ports = lab.ports
    return (
        f"name: {name}\nsource: {{url: 'http://127.0.0.1:{ports.source}'}}\n"
        f"models: [{{ollama: '{name}', huggingface: lab/model}}]\n"
        f"target: {{runtime: {{kind: process, port: {ports.target}}}}}\n"
        f"router: {{kind: envoy, listen: '127.0.0.1:{ports.router}', metrics_listen: '127.0.0.1:{ports.router_metrics}'}}\n"
        f"prometheus: {{url: 'http://127.0.0.1:{ports.prometheus}', timeout: 10s, stale_after: 60s}}\n"
        "gates:\n  error_rate: {at_most: 1%, no_worse_than_source: 2x}\n  ttft_p95: {at_most: 500ms, no_worse_than_source: 1.3x}\n"
        "  router_scraped: {promql: 'max(up)', above: 0.5}\n"
        "ramp: {every: 60s, steps: [1%, 10%, 50%, 100%]}\n"
    )


@contextmanager
def stack(lab: Lab, *, migrations: int, scrape: str) -> Iterator[Stack]:
    """Everything running, `migrations` of them at a tenth of their requests on the target. No guard: nothing is to rise here."""
    before = dict(os.environ)
    try:
        os.environ.update(lab.environment())
        start_server(lab)
        upstream = str(Path(__file__).with_name("upstream.py"))
        lab.start("engines", sys.executable, upstream, str(lab.ports.source), str(lab.ports.target))
        names = [name_of(number) for number in range(migrations)]
        _store_routes(lab, names)
        start_router(lab.home, parse_plan(plan_text(lab, names[0]), origin="benchmark", folder=lab.folder).plan)
        journal = SqlJournal(lab.home.journal)
        started = tuple(_ramping(lab, journal, name) for name in names)
        _scraped(lab, scrape)
        wait_for_server(lab, print)
        make_pools(lab)
        deploy_all(lab)
        worker = ("--pool", "crossfade", "--type", "process", "--name", "bench")
        lab.start("worker-crossfade", sys.executable, "-m", "prefect", "worker", "start", *worker)
        yield Stack(lab, PrefectApi(lab.prefect_api), journal, started, f"127.0.0.1:{lab.ports.router}")
    finally:
        down(lab, print)
        os.environ.clear()
        os.environ.update(before)


def _store_routes(lab: Lab, names: list[str]) -> None:
    """All routes at once, before the router starts: a thousand verified changes would take many minutes."""
    folder = RouteFolder(lab.home.router)
    folder.prepare()
    routes = tuple(ModelRoute(name=route_name(f"{name}/{name}"), models=(name,), share_bp=SHARE_BP) for name in names)
    folder.store(RouteTable(generation=1, routes=routes))


def _ramping(lab: Lab, journal: SqlJournal, name: str) -> str:
    migration, now_s = f"{name}/{name}", time.time()
    plan = parse_plan(plan_text(lab, name), origin="benchmark", folder=lab.folder)
    first = MigrationState(name=migration, plan_digest=plan.digest, phase_since_s=now_s, share_since_s=now_s)
    begun = journal.begin(first, plan_text(lab, name))
    moved = begun.model_copy(update={"phase": Phase.RAMPING, "step": _FIRST_STEP, "share_bp": SHARE_BP})
    journal.move(moved, Entry(migration, 1, now_s, "note", "set by a benchmark", '{"why": "benchmark"}'))
    return migration


def _scraped(lab: Lab, every: str) -> None:
    binary = prometheus_binary(CHECKOUT / ".lab", print)
    targets = [ScrapeTarget("crossfade-router", str(lab.home.router / "prometheus.json"))]
    url = start_prometheus(
        binary, lab=lab.folder, port=lab.ports.prometheus, targets=targets, records=lab.home.processes, logs=lab.home.logs
    )
    config = lab.folder / "prometheus-data" / "prometheus.yml"
    config.write_text(config.read_text().replace("interval: 1s", f"interval: {every}").replace("timeout: 1s", f"timeout: {every}"))
    httpx.post(f"{url}/-/reload", timeout=30, trust_env=False).raise_for_status()
    wait_until_scraping(url, 120)


@contextmanager
def users(stack: Stack, per_s: float) -> Iterator[None]:
    """One after the other of all models is asked, `per_s` times a second, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    models = [migration.split("/")[1] for migration in stack.migrations]
    user = context.Process(target=_ask, args=(stack.router, models, per_s, stop), daemon=True)
    user.start()
    try:
        yield
    finally:
        stop.set()
        user.join(5)
        user.kill()


def _ask(address: str, models: list[str], per_s: float, stop: Event) -> None:
    client, wires, number = Client(address), [request(body(model)) for model in models], 0
    began_s = time.monotonic()
    while not stop.wait(max(0.0, began_s + number / per_s - time.monotonic())):
        try:
            client.ask(wires[number % len(wires)])
        except OSError:
            client = Client(address)
        number += 1
