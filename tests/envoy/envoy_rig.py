"""A real Envoy between a client and two engine doubles, and waiting for things to happen."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from envoy_doubles import EngineDouble

from crossfade import processes
from crossfade.envoy import process
from crossfade.envoy.binary import STRICT, envoy_binary
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.errors import Unreachable
from crossfade.home import Home
from crossfade.rollout.routes import ModelRoute, Upstream


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Rig:
    """A real Envoy between a client and two engine doubles."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.source, self.target = EngineDouble("source").start(), EngineDouble("target").start()
        self.stack = Stack(
            listen=f"127.0.0.1:{free_port()}",
            metrics_listen=f"127.0.0.1:{free_port()}",
            source=self.source.address,
            target=self.target.address,
            folder=self.home.router,
        )
        self.router = EnvoyRouter(self.home.router)
        # as many idle connections as clients: with fewer, the pool at times closes one it has just handed to another thread
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self.client = httpx.Client(base_url=f"http://{self.stack.listen}", trust_env=False, timeout=20, limits=limits)

    def start(self) -> processes.Program:
        self.program = process.start(self.stack, self.home)
        return self.program

    def kill(self) -> None:
        """SIGKILL, no goodbye."""
        victim = psutil.Process(self.program.pid)
        victim.kill()
        victim.wait(10)

    def start_from(self, bootstrap: str) -> None:
        """Envoy alone, with another bootstrap than ours."""
        file = self.home.router / "other.json"
        file.write_text(bootstrap)
        flags = [STRICT, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]
        log = self.home.router / "envoy.log"
        command = [str(envoy_binary()), "-c", str(file), *flags]
        self.program = processes.start(process.NAME, command, records=self.home.processes, log=log, env={})
        eventually(self.serves)

    def serves(self) -> bool:
        try:
            return self.router.observed() == self.router.table()
        except Unreachable:
            return False

    def route(self, share_bp: int, name: str = "m", upstream: Upstream = Upstream.TARGET) -> None:
        change = ModelRoute(name=name, models=(name,), share_bp=share_bp, upstream=upstream)
        self.router.apply(change, expect=self.router.table().generation)

    def ask(self, model: str = "m", session: str = "") -> httpx.Response:
        headers = {"x-session-id": session} if session else {}
        return self.client.post("/v1/chat/completions", json={"messages": [], "model": model}, headers=headers)

    def engines(self, count: int, model: str = "m") -> Counter[str]:
        """Who answered, or the status of what was no success."""
        answers = (self.ask(model) for _ in range(count))
        return Counter(answer.json()["engine"] if answer.status_code == 200 else str(answer.status_code) for answer in answers)

    def requests(self, **labels: str) -> int:
        """Sum of the router's request counter over series with these labels."""
        text = httpx.get(f"http://{self.stack.metrics_listen}/stats/prometheus", trust_env=False).text
        total = 0
        for found, value in re.findall(r"^envoy_cf_requests\{(.*)\} (\d+)$", text, re.MULTILINE):
            series = dict(re.findall(r'(\w+)="([^"]*)"', found))
            if all(series[label] == wanted for label, wanted in labels.items()):
                total += int(value)
        return total

    def close(self) -> None:
        self.client.close()
        processes.stop_all(self.home.processes, deadline_s=5)
        self.source.stop()
        self.target.stop()


def eventually(check: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
