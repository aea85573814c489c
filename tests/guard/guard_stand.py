"""A real Envoy, a real Prometheus that scrapes it, a real journal, and engines whose target can be broken by the fault proxy."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crossfade import processes
from crossfade.envoy import process
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.guard.__main__ import guard_of
from crossfade.guard.watch import Guard
from crossfade.home import CHECKOUT, Home
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.plan.load import parse_plan
from crossfade.rollout.routes import ModelRoute, Upstream
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def eventually(check: Callable[[], object], *, within_s: float = 20, each: Callable[[], object] = lambda: None) -> None:
    """Poll until true, doing `each` between looks."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        each()
        time.sleep(0.05)


class Engine:
    """Answers everything with its name."""

    def __init__(self, name: str) -> None:
        async def answer(_: Request) -> Response:
            return JSONResponse({"engine": name})

        self.address = f"127.0.0.1:{free_port()}"
        app = Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])])
        host, port = self.address.split(":")
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=int(port), log_level="critical", lifespan="off"))
        threading.Thread(target=self._server.run, daemon=True).start()
        eventually(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True


class Stand:
    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.source, self.target = Engine("source"), Engine("target")
        proxy_port, self._control = free_port(), free_port()
        options = ["--port", str(proxy_port), "--upstream", self.target.address, "--control", str(self._control)]
        command = [sys.executable, "-m", "crossfade.lab.fault_proxy", *options]
        processes.start("proxy", command, records=self.home.processes, log=self.home.logs / "proxy.log", env={})
        eventually(lambda: self._answers(f"http://127.0.0.1:{self._control}/faults"))
        self.stack = Stack(
            listen=f"127.0.0.1:{free_port()}",
            metrics_listen=f"127.0.0.1:{free_port()}",
            source=self.source.address,
            target=f"127.0.0.1:{proxy_port}",
            folder=self.home.router,
        )
        process.start(self.stack, self.home)
        self.router = EnvoyRouter(self.home.router)
        self.client = httpx.Client(base_url=f"http://{self.stack.listen}", trust_env=False, timeout=20)
        targets = [ScrapeTarget("crossfade-router", self.stack.metrics_listen, "/stats/prometheus")]
        binary = prometheus_binary(CHECKOUT / ".lab", print)
        records, logs = self.home.processes, self.home.logs
        self.prometheus = start_prometheus(binary, lab=root / "lab", port=free_port(), targets=targets, records=records, logs=logs)
        wait_until_scraping(self.prometheus, 30)

    def close(self) -> None:
        self.client.close()
        processes.stop_all(self.home.processes, deadline_s=5)
        self.source.stop()
        self.target.stop()

    def home_beside(self, folder: Path) -> Home:
        """A home of its own (journal, outbox, heartbeat) that shares the router."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "router").symlink_to(self.home.router)
        return Home(folder)

    def begin(self, home: Home, migration: str, *, prometheus: str = "", window: str = "10s") -> SqlJournal:
        """Put a migration with a hard limit of 20 % errors into the journal of `home`."""
        journal = SqlJournal(home.journal)
        name, model = migration.split("/")
        text = (
            f"name: {name}\nsource: {{url: 'http://{self.source.address}'}}\n"
            f"models: [{{ollama: '{model}', huggingface: lab/model}}]\n"
            f"prometheus: {{url: '{prometheus or self.prometheus}', timeout: 1s, stale_after: 5s}}\n"
            "gates: {error_rate: {at_most: 1%}}\n"
            f"guard: {{window: {window}, errors_at_least: 5, error_share_above: 20%, slow_after: 500ms, slow_share_above: 50%}}\n"
        )
        source = parse_plan(text, origin="test", folder=Path("/"))
        now_s = time.time()
        journal.begin(MigrationState(name=migration, plan_digest=source.digest, phase_since_s=now_s, share_since_s=now_s), text)
        return journal

    def route(self, name: str, share_bp: int, *, upstream: Upstream = Upstream.TARGET) -> None:
        """Put a share of the model called like its route on the target, once the router counts on it again.

        A test before may have broken it; an ejected target would turn slow answers into failed ones.
        """
        asked_s = time.time()
        eventually(lambda: self.target_is_healthy(since_s=asked_s))
        change = ModelRoute(name=name, models=(name,), share_bp=share_bp, upstream=upstream)
        self.router.apply(change, expect=self.router.table().generation)

    def guard(self, home: Home, *, listen: str = "127.0.0.1:0") -> Guard:
        """A guard in this process, driven by hand; it has read the journal. It hears nothing outside of `hearing`."""
        guard = guard_of(home, listen=listen)
        guard.clerk.work_once()
        return guard

    @contextmanager
    def hearing(self, guard: Guard) -> Iterator[httpx.Client]:
        """The guard's HTTP server, running; a client of it."""
        stop = threading.Event()
        thread = threading.Thread(target=guard.ear.run, args=(stop,), daemon=True)
        thread.start()
        eventually(lambda: guard.vitals.listens)
        with httpx.Client(base_url=f"http://{guard.vitals.listens}", trust_env=False, timeout=20) as client:
            yield client
        stop.set()
        thread.join(20)

    def ask(self, model: str, times: int = 1) -> list[httpx.Response]:
        return [self.client.post("/v1/chat/completions", json={"messages": [], "model": model}) for _ in range(times)]

    def break_it(self, **faults: float) -> None:
        httpx.post(f"http://127.0.0.1:{self._control}/faults", json=faults, trust_env=False).raise_for_status()

    def share(self, route: str) -> int:
        """The share the router itself shows."""
        return self.router.observed().route(route).share_bp

    def target_is_healthy(self, *, since_s: float) -> bool:
        """Whether the router sends requests to the target, as Prometheus has seen it since then."""
        healthy = 'envoy_cluster_membership_healthy{envoy_cluster_name="target"}'
        query = f"{healthy} >= 1 and timestamp({healthy}) >= {since_s}"
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}, trust_env=False).json()["data"]["result"]
        return bool(answer)

    def counted(self, route: str) -> int:
        """Requests of a route that Prometheus has seen."""
        query = f'sum(envoy_cf_requests{{route="{route}"}})'
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}, trust_env=False).json()["data"]["result"]
        return int(answer[0]["value"][1]) if answer else 0

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return httpx.get(url, trust_env=False).is_success
        except httpx.TransportError:
            return False
