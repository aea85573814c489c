"""Prometheus finds each Envoy process by itself, and a handover is no counter reset to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from envoy_rig import Rig, eventually, free_port

from crossfade import processes
from crossfade.envoy import process
from crossfade.home import CHECKOUT
from crossfade.judge.evidence import Blind, Evidence
from crossfade.lab.prometheus import prometheus_binary
from crossfade.prometheus.metrics import PrometheusMetrics


@pytest.fixture
def prometheus(rig: Rig, tmp_path: Path) -> Iterator[str]:
    """A real Prometheus that knows nothing of the router but where its file is."""
    discovered = [{"files": [str(rig.stack.folder / "prometheus.json")]}]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "crossfade-router", "file_sd_configs": discovered}],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'samples'}", f"--web.listen-address={address}"]
    command = [str(prometheus_binary(CHECKOUT / ".lab", print)), *flags, "--log.level=warn"]
    env = {"PATH": os.environ["PATH"]}
    program = processes.start("prometheus", command, records=tmp_path / "records", log=tmp_path / "prometheus.log", env=env)
    yield f"http://{address}"
    processes.stop(program, deadline_s=5)


def up(url: str) -> set[str]:
    """Instances that Prometheus can read now."""
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": 'up{job="crossfade-router"} == 1'}, trust_env=False).json()
    except httpx.HTTPError:
        return set()
    return {sample["metric"]["instance"] for sample in answer["data"]["result"]} if answer["status"] == "success" else set()


@pytest.mark.slow
def test_what_two_processes_counted_is_counted_once_and_under_its_own_instance(rig: Rig, prometheus: str) -> None:
    rig.route(10_000)
    first = rig.program.boot.id
    eventually(lambda: up(prometheus) == {first}, within_s=60)
    metrics = PrometheusMetrics(prometheus, timeout_s=5, stale_after_s=5)
    since_s = time.time()
    assert rig.engines(50) == {"target": 50}
    second = process.hand_over(rig.stack, rig.home, idle_s=0, deadline_s=20).boot.id
    eventually(lambda: second in up(prometheus), within_s=30)
    assert rig.engines(30) == {"target": 30}

    def counted() -> int:
        found = metrics.intervals("m", since_s=since_s, now_s=time.time())
        return 0 if isinstance(found, Blind) else Evidence(boundary="step", intervals=tuple(found)).totals()[1].requests

    eventually(lambda: counted() == 80)
    eventually(lambda: up(prometheus) == {second}, within_s=30)
    assert counted() == 80
