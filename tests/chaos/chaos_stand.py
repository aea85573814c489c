"""A real Envoy with users on it, a real Prometheus that scrapes it, a real journal, and ticks in processes of their own.

Every migration a test will use has its route, its share and its users from the beginning: so one wait for evidence serves them all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from chaos_forked import ForkedTick
from chaos_traffic import Engine, Users
from envoy_rig import free_port

from crossfade import processes
from crossfade.envoy import process as envoy_process
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.guard.heartbeat import beat, my_heartbeat
from crossfade.home import CHECKOUT, Home
from crossfade.judge.evidence import Blind
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.plan.load import parse_plan
from crossfade.ports import Entry
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.wiring import Bench, open_bench

STEPS_BP = (5000, 8000, 10_000)
INTERVAL_S, ENOUGH_S, ENOUGH = 5.0, 10.0, 15
"""The plan's interval; so many seconds of whole intervals, and so many requests on the target in them prove it or condemn it."""


@dataclass(frozen=True)
class Start:
    """Where a migration stands before the tick that is to die. `slow` users wait longer on its target than its plan allows."""

    phase: Phase = Phase.RAMPING
    share_bp: int = STEPS_BP[0]
    slow: bool = False
    soaked_s: float = 0.0


@dataclass(frozen=True)
class Case:
    """One migration, for one test. Its number makes its name."""

    number: int
    start: Start

    @property
    def model(self) -> str:
        return f"{'slow' if self.start.slow else 'm'}{self.number}"

    @property
    def migration(self) -> str:
        return f"chaos/{self.model}"

    @property
    def route(self) -> str:
        return route_name(self.migration)


def eventually(check: Callable[[], object], *, within_s: float = 20, every_s: float = 0.02) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        time.sleep(every_s)


class Stand:
    """Everything but the ticks."""

    def __init__(self, root: Path, *, guarded: bool = False, target: str = "", every: str = "5s", ttft: str = "400ms") -> None:
        """`guarded` means that a real guard will run beside it, `target` is the address of an engine that somebody else starts.

        `every` and `ttft` are the plan's: how often its ticks are due, and the median wait for a first token that it allows.
        """
        self.home = Home(root)
        self.cases: list[Case] = []
        self._ticks, self._real_target, self._every, self._ttft = 0, target, every, ttft
        self.source, self.target = Engine("source").start(), Engine("target").start()
        self.stack = Stack(
            listen=f"127.0.0.1:{free_port()}",
            metrics_listen=f"127.0.0.1:{free_port()}",
            source=self.source.address,
            target=target or self.target.address,
            folder=self.home.router,
        )
        self.router = EnvoyRouter(self.home.router)
        self.journal = SqlJournal(self.home.journal)
        self._over = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)
        if not guarded:
            self._pulse.start()

    def open(self, cases: list[Case], users: type[Users] = Users) -> None:
        """Serve these migrations; their users begin to ask, and from here on what they see is evidence."""
        self.cases = cases
        folder = RouteFolder(self.home.router)
        folder.prepare()
        routes = (ModelRoute(name=case.route, models=(case.model,), share_bp=case.start.share_bp) for case in cases)
        folder.store(RouteTable(generation=1, routes=tuple(routes)))
        self.start_envoy()
        self._port = free_port()
        self.start_prometheus()
        self.users = users(self.stack.listen, [case.model for case in cases])
        self.counts_from(time.time())

    def counts_from(self, seen_s: float) -> None:
        """What was seen before is no evidence of the migrations that begin from now on."""
        self._seen_s = seen_s

    def start_prometheus(self) -> None:
        """Also after it was killed: it goes on with what it had written."""
        targets = [ScrapeTarget("crossfade-router", self.stack.metrics_listen, "/stats/prometheus")]
        targets += [ScrapeTarget("vllm", self._real_target)] if self._real_target else []
        binary, lab = prometheus_binary(CHECKOUT / ".lab", print), self.home.root / "lab"
        self.prometheus = start_prometheus(
            binary, lab=lab, port=self._port, targets=targets, records=self.home.processes, logs=self.home.logs
        )
        wait_until_scraping(self.prometheus, 30)

    def start_envoy(self) -> None:
        """Also after it was killed: it comes back with the shares of the route folder."""
        envoy_process.start(self.stack, self.home)

    def close(self) -> None:
        self._over.set()
        if self._pulse.is_alive():
            self._pulse.join(10)
        if self.cases:
            self.users.stop()
        processes.stop_all(self.home.processes, deadline_s=5)
        self.source.stop()
        self.target.stop()

    def begin(self, case: Case, *, ready: bool = False) -> None:
        """Write the case's migration into the journal as if a ramp had put its share in force. `ready`: its evidence is there."""
        text = (
            f"name: chaos\nsource: {{url: 'http://{self.source.address}'}}\n"
            f"models: [{{ollama: '{case.model}', huggingface: lab/model}}]\n"
            f"prometheus: {{url: '{self.prometheus}', timeout: 5s, stale_after: 60s}}\n"
            f"gates:\n  error_rate: {{at_most: 50%}}\n  ttft_p50: {{at_most: {self._ttft}}}\n"
            "  router_scraped: {promql: 'min(up{job=\"crossfade-router\"})', above: 0.5}\n"
            f"ramp: {{every: {self._every}, hold: 5s, min_requests: 5, steps: [50%, 80%, 100%]}}\n"
            f"judge: {{interval: {INTERVAL_S:g}s, min_evidence: {ENOUGH_S:g}s, settle: 0s, blip: 0s}}\n"
            "soak: 10s\n"
        )
        if case.start.share_bp and not ready:
            eventually(lambda: self._is_proven(case.route), within_s=90, every_s=0.3)
        digest = parse_plan(text, origin="chaos", folder=Path("/")).digest
        now_s, start = time.time(), case.start
        first = MigrationState(name=case.migration, plan_digest=digest, phase_since_s=self._seen_s, share_since_s=self._seen_s)
        state = self.journal.begin(first, text)
        step = STEPS_BP.index(start.share_bp) if start.share_bp else -1
        placed = {"phase": start.phase, "step": step, "share_bp": start.share_bp, "soaked_s": start.soaked_s}
        if start.soaked_s:
            placed["soak_tick_s"] = now_s - 1
        note = Entry(case.migration, 1, now_s, "note", "placed by a test", '{"why": "test"}')
        self.journal.move(state.model_copy(update=placed), note)

    def bench(self, case: Case) -> Bench:
        """The product's own wiring of a case, in this process."""
        return open_bench(case.migration)

    def killed(self, case: Case, failpoint: str) -> None:
        """A bare `crossfade tick` that was killed at its failpoint; one that never came by fails the test."""
        command = [sys.executable, "-m", "crossfade.cli", "tick", case.migration]
        ended = subprocess.run(command, env=self._environment(failpoint), capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == -signal.SIGKILL, f"never came by {failpoint}, and said: {ended.stdout}{ended.stderr}"

    def tick(self, case: Case, stops_at: str = "") -> ForkedTick:
        """A tick in a process of its own, under way; returned when it stands still, if it is to. One that never does fails the test."""
        env = self._environment(stops_at) | ({"CROSSFADE_FAILPOINT_STOP": "1"} if stops_at else {})
        self._ticks += 1
        ticking = ForkedTick(case.migration, env, self.home.root / f"tick-{self._ticks}.log")
        if stops_at:
            process = psutil.Process(ticking.pid)
            eventually(lambda: ticking.over() or process.status() == psutil.STATUS_STOPPED)
            assert not ticking.over(), f"never came by {stops_at}, and said: {ticking.said()}"
        return ticking

    def ticked(self, case: Case) -> str:
        """A whole tick; what it said."""
        ticking = self.tick(case)
        assert ticking.wait() == 0, ticking.said()
        return ticking.said()

    def _environment(self, failpoint: str) -> dict[str, str]:
        env = {"PATH": os.environ["PATH"], "CROSSFADE_HOME": str(self.home.root), "HOME": str(self.home.root)}
        return env | ({"CROSSFADE_FAILPOINT": failpoint, "CROSSFADE_FAILPOINT_ALLOW": "1"} if failpoint else {})

    def weights(self, case: Case) -> tuple[list[int], list[int]]:
        """Target's and source's weight, raw, in the route file and in Envoy's own dump."""
        written = json.loads((self.home.router / "rds.json").read_text())["resources"][0]
        transport = httpx.HTTPTransport(uds=str((self.home.router / "admin.sock").resolve()))
        with httpx.Client(transport=transport, base_url="http://envoy") as admin:
            dump = admin.get("/config_dump?resource=dynamic_route_configs").json()["configs"][0]["route_config"]
        return _weights(written, case.route), _weights(dump, case.route)

    def _is_proven(self, route: str) -> bool:
        """Whether a tick would find enough, now and for some seconds: in whole intervals as the product counts them, the newest not quiet.

        A series that has reached some value proves neither: Prometheus may scrape late, and at half of the traffic chance alone keeps a
        target quiet for three intervals now and then, after which nothing rises.
        """
        metrics, now_s = PrometheusMetrics(self.prometheus, timeout_s=5, stale_after_s=60), time.time()
        found = metrics.complete_intervals(route, since_s=self._seen_s, now_s=now_s, every_s=INTERVAL_S)
        if isinstance(found, Blind) or not found or not found[-1].target.requests:
            return False
        seen = [one for one in found if one.target.requests]
        return sum(one.end_s - one.start_s for one in seen) >= ENOUGH_S and sum(one.target.requests for one in seen) >= ENOUGH

    def _beat(self) -> None:
        """A guard's sign of life, without which nothing rises; what guards do is tested where they are."""
        self.home.root.mkdir(parents=True, exist_ok=True)
        while not self._over.wait(1):
            beat(self.home, my_heartbeat(time.time(), tuple(case.route for case in self.cases), {}))


def _weights(config: dict[str, list[dict[str, list[dict[str, dict[str, dict[str, list[dict[str, int]]]]]]]]], route: str) -> list[int]:
    [found] = [one for one in config["virtual_hosts"][0]["routes"] if one["name"] == route]
    return [cluster.get("weight", 0) for cluster in found["route"]["weighted_clusters"]["clusters"]]
