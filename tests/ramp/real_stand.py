"""Real ramps in seconds: Envoy, Prometheus, journal and ticks are the real ones, with a fault proxy before each of two cheap engines."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import uvicorn
from ramp_desk import Post, Source, free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crossfade import processes
from crossfade.envoy import process
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.home import CHECKOUT, Home
from crossfade.judge.baseline import learn_baseline
from crossfade.judge.evidence import Blind
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.plan.load import parse_plan
from crossfade.ports import SystemClock
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.ramp.gatekeeper import count_since
from crossfade.ramp.logbook import Desk
from crossfade.ramp.tick import Ticked, tick
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

ANSWER_S = 0.04
RPS = 80

PLAN = """
name: real
source: {{url: "http://{source}"}}
models: [{{ollama: "{model}", huggingface: a/b}}]
prometheus: {{url: "{prometheus}", timeout: 500ms, stale_after: 4s}}
gates: {gates}
ramp: {{every: 1s, hold: 2s, min_requests: 20, steps: [25%, 50%, 100%], deadline: 1h}}
judge: {{interval: 1s, min_evidence: 3s, settle: 1s, blip: 3s, horizon: 10m}}
parity: {{skip: the engines are the same}}
soak: 3s
"""


def eventually(check: Callable[[], object], *, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        time.sleep(0.05)


class Broken:
    """A real engine on a socket, and the fault proxy in front of it."""

    def __init__(self, name: str, home: Home) -> None:
        async def answer(_: Request) -> Response:
            await asyncio.sleep(ANSWER_S)
            return JSONResponse({"engine": name})

        port, proxy_port, self._control = free_port(), free_port(), free_port()
        app = Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])])
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
        threading.Thread(target=self._server.run, daemon=True).start()
        eventually(lambda: self._server.started)
        options = ["--port", str(proxy_port), "--upstream", f"127.0.0.1:{port}", "--control", str(self._control)]
        command = [sys.executable, "-m", "crossfade.lab.fault_proxy", *options]
        processes.start(f"proxy-{name}", command, records=home.processes, log=home.logs / f"proxy-{name}.log", env={})
        self.address = f"127.0.0.1:{proxy_port}"
        eventually(self._listens)

    def breaks(self, **faults: float) -> None:
        """Replace its faults; none is healthy."""
        httpx.post(f"http://127.0.0.1:{self._control}/faults", json=faults, trust_env=False).raise_for_status()

    def _listens(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._control}/faults", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self._server.should_exit = True


class Stand:
    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.source, self.target = Broken("source", self.home), Broken("target", self.home)
        self._stack = Stack(
            listen=f"127.0.0.1:{free_port()}",
            metrics_listen=f"127.0.0.1:{free_port()}",
            source=self.source.address,
            target=self.target.address,
            folder=self.home.router,
        )
        process.start(self._stack, self.home)
        self._prometheus_port = free_port()
        self.prometheus = self.start_prometheus()

    def start_prometheus(self) -> str:
        """Start it, or start it again on the samples it had."""
        targets = [ScrapeTarget("crossfade-router", self._stack.metrics_listen, "/stats/prometheus")]
        binary, records, logs = prometheus_binary(CHECKOUT / ".lab", print), self.home.processes, self.home.logs
        url = start_prometheus(binary, lab=self.home.root, port=self._prometheus_port, targets=targets, records=records, logs=logs)
        wait_until_scraping(url, 30)
        return url

    def prometheus_process(self) -> psutil.Process:
        program = processes.find("prometheus", self.home.processes)
        assert program
        return psutil.Process(program.pid)

    def close(self) -> None:
        processes.stop_all(self.home.processes, deadline_s=5)
        self.source.stop()
        self.target.stop()

    @contextmanager
    def ramp(self, model: str, gates: str) -> Iterator[Ramp]:
        """Users at work, the source's baseline learned from them, and a migration that is ready to ramp."""
        text = PLAN.format(source=self.source.address, model=model, prometheus=self.prometheus, gates=gates)
        plan = parse_plan(text, origin="test", folder=Path("/")).plan
        desk = Desk(
            plan=plan,
            journal=SqlJournal(self.home.journal),
            router=EnvoyRouter(self.home.router),
            metrics=PrometheusMetrics(self.prometheus, timeout_s=plan.prometheus.timeout, stale_after_s=plan.prometheus.stale_after),
            watchman=Post(),
            standby=Source(),
            clock=SystemClock(),
        )
        (migration,) = plan.migration_names()
        desk.router.apply(ModelRoute(name=route_name(migration), models=(model,)), expect=desk.router.table().generation)
        now_s = time.time()
        state = desk.journal.begin(MigrationState(name=migration, plan_digest="d", phase_since_s=now_s, share_since_s=now_s), text)
        stop = threading.Event()
        users = threading.Thread(target=lambda: asyncio.run(_ask(self._stack.listen, model, stop)), daemon=True)
        users.start()
        try:
            for phase in ("assessed", "observing", "downloaded", "quantized", "serving", "proven", "rehearsed"):
                state = desk.enter(state, Phase(phase), "test")
            yield Ramp(desk, migration)
        finally:
            stop.set()
            users.join(20)
            desk.router.remove(route_name(migration), expect=desk.router.table().generation)


class Ramp:
    """Ticks of one migration, a second apart."""

    def __init__(self, desk: Desk, migration: str) -> None:
        self.desk, self.migration, self.ticks, self._due_s = desk, migration, list[Ticked](), 0.0

    @property
    def state(self) -> MigrationState:
        return self.desk.journal.state(self.migration)

    def in_force(self) -> int:
        """The share in the router's own dump."""
        return self.desk.router.observed().route(route_name(self.migration)).share_bp

    def observe(self, for_s: float) -> None:
        """Learn the source's baseline from what Prometheus saw of it."""
        since_s = time.time()

        def baseline() -> bool:
            found = count_since(self.desk.metrics, route_name(self.migration), since_s=since_s, now_s=time.time(), every_s=1)
            if isinstance(found, Blind) or len(found) < for_s:
                return False
            learned = learn_baseline(found, asked_s=for_s, gates=self.desk.plan.gates, judge=self.desk.plan.judge)
            self.desk.write(self.state, "outcome", "observe", learned)
            return learned.requests > 0

        eventually(baseline, within_s=for_s + 30)

    def until(self, done: Callable[[Ticked], object], *, within_s: float) -> Ticked:
        """Tick until `done`; what the last tick said is in the message when it never is."""
        deadline = time.monotonic() + within_s
        while not done(ticked := self.tick(1)[0]):
            assert time.monotonic() < deadline, f"not within {within_s} s, but {ticked.did} at {ticked.state.share_bp}: {ticked.reason}"
        return ticked

    def tick(self, times: int) -> list[Ticked]:
        """So many ticks, whatever they say."""
        for _ in range(times):
            time.sleep(max(0.0, self._due_s - time.monotonic()))
            self._due_s = time.monotonic() + 1
            self.ticks.append(tick(self.desk, self.migration))
        return self.ticks[-times:]


async def _ask(address: str, model: str, stop: threading.Event) -> None:
    """Users who come whether or not earlier ones were answered."""
    limits, began_s, number = httpx.Limits(max_connections=200, max_keepalive_connections=200), time.monotonic(), 0
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=20, limits=limits) as client:

        async def one() -> None:
            await client.post("/v1/chat/completions", json={"messages": [], "model": model})

        under_way = set[asyncio.Task[None]]()
        while not stop.is_set():
            await asyncio.sleep(max(0.0, began_s + number / RPS - time.monotonic()))
            if len(under_way) < 150:  # else this machine stands still, and more of them would not help it
                task = asyncio.create_task(one())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way, return_exceptions=True)
