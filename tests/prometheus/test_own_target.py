"""Two vLLMs on one real Prometheus: what is asked about the plan's own target is answered by that one alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from history import write_blocks
from polling import free_port

from crossfade import processes
from crossfade.lab.prometheus import start_prometheus
from crossfade.plan.gates import PromqlGate
from crossfade.plan.load import parse_plan
from crossfade.plan.model import Plan
from crossfade.prometheus.asking import Asking
from crossfade.prometheus.numbers import NoData, one_number

EVERY_S, HOUR_S = 15, 3600.0
OWN, OTHER, RENAMED = "127.0.0.1:8000", "127.0.0.1:8001", "gpu-1"
STARTED = {OWN: 1000.0, OTHER: 2000.0, RENAMED: 3000.0}
HOURS = {  # what is scraped in each hour, and which of it answers
    "both": ((OWN, OTHER), (OWN, OTHER)),
    "own is down": ((OWN, OTHER), (OTHER,)),
    "renamed": ((RENAMED,), (RENAMED,)),
    "renamed among others": ((RENAMED, OTHER), (RENAMED, OTHER)),
}
FROZEN = {"both": OWN, "own is down": "", "renamed": RENAMED, "renamed among others": RENAMED}
FULL = OTHER


def plan(port: int = 8000, extra: str = "") -> Plan:
    written = f"""
name: chat
source: {{url: "http://127.0.0.1:1"}}
models: [{{ollama: "lab:latest", huggingface: a/b}}]
target: {{runtime: {{port: {port}}}}}
gates: {{kv_cache: {{}}, queue: {{}}, preemptions: {{}}, heartbeat: {{}}}}
{extra}"""
    return parse_plan(written, origin="test", folder=Path("/")).plan


@pytest.fixture(scope="module")
def vllms(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asking, float]]:
    """A Prometheus with one hour for each case, and when the first began. One engine hangs in each, another one is full."""
    promtool = binary.parent / "promtool"
    if not promtool.exists():
        pytest.skip(f"no promtool beside {binary}: nothing can write history")
    folder, began_s = tmp_path_factory.mktemp("own"), float(int(time.time()) - (len(HOURS) + 1) * 3600)
    samples: dict[str, list[tuple[float, float]]] = {}
    for number, (hour, (scraped, alive)) in enumerate(HOURS.items()):
        for at in range(600 // EVERY_S):
            at_s = began_s + number * HOUR_S + at * EVERY_S
            for instance in scraped:
                seen = {"up": float(instance in alive)}
                if instance in alive:
                    frozen = instance == FROZEN[hour]
                    seen |= {
                        "process_start_time_seconds": STARTED[instance],
                        "vllm:num_requests_running": 3.0,
                        "vllm:iteration_tokens_total_count": 0.0 if frozen else 500.0 * at,
                        "vllm:kv_cache_usage_perc": 0.95 if instance == FULL else 0.2,
                        "vllm:num_requests_waiting": 5.0 if instance == FULL else 0.0,
                        "vllm:num_preemptions_total": float(at) if instance == FULL else 0.0,
                        "vllm:request_success_total": 10.0 * at,
                    }
                for name, value in seen.items():
                    samples.setdefault(f'{name}{{job="vllm",instance="{instance}"}}', []).append((at_s, value))
    write_blocks(promtool, folder / "prometheus-data" / "samples", samples)
    url = start_prometheus(binary, lab=folder, port=free_port(), targets=[], records=folder / "processes", logs=folder)
    yield Asking(url, timeout_s=20), began_s
    processes.stop_all(folder / "processes", deadline_s=5)


def number(vllms: tuple[Asking, float], hour: str, promql: str) -> float | None:
    asking, began_s = vllms
    try:
        return one_number(asking.ask(promql, at_s=began_s + list(HOURS).index(hour) * HOUR_S + 585))
    except NoData:
        return None


def gate(name: str, of: Plan | None = None) -> str:
    found = (of or plan()).gates[name]
    assert isinstance(found, PromqlGate)
    return found.promql


@pytest.mark.parametrize(
    ("hour", "port", "start"),
    [
        ("both", 8000, STARTED[OWN]),
        ("both", 8001, STARTED[OTHER]),
        ("own is down", 8000, None),  # not knowing is no restart; another one's start would be one
        ("renamed", 8000, STARTED[RENAMED]),
        ("renamed among others", 8000, None),
    ],
)
def test_the_start_is_that_of_the_plans_own_target(vllms: tuple[Asking, float], hour: str, port: int, start: float | None) -> None:
    assert number(vllms, hour, plan(port).target_started) == start


def test_a_busy_vllm_does_not_hide_one_that_hangs(vllms: tuple[Asking, float]) -> None:
    assert number(vllms, "both", gate("heartbeat")) == 3
    assert number(vllms, "both", gate("heartbeat", plan(8001))) == 0
    assert number(vllms, "renamed among others", gate("heartbeat")) == 3


@pytest.mark.parametrize(("name", "well", "full"), [("kv_cache", 0.2, 0.95), ("queue", 0, 5), ("preemptions", 0, 0.1)])
def test_another_vllm_that_is_full_holds_nobody_elses_ramp(vllms: tuple[Asking, float], name: str, well: float, full: float) -> None:
    assert number(vllms, "both", gate(name)) == well
    assert number(vllms, "both", gate(name, plan(8001))) == pytest.approx(full, rel=0.2)
    assert number(vllms, "renamed", gate(name)) == well  # a relabelled instance is still seen
    assert number(vllms, "own is down", gate(name)) is None


def test_what_the_plan_writes_itself_stays_as_it_is() -> None:
    written = plan(extra="prometheus: {target_started: 'max(up)'}\n")
    assert written.target_started == "max(up)"
    text = """
name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: "lab:latest", huggingface: a/b}]
gates: {kv_cache: {promql: 'max(vllm:kv_cache_usage_perc)', below: 0.9}}
"""
    assert gate("kv_cache", parse_plan(text, origin="test", folder=Path("/")).plan) == "max(vllm:kv_cache_usage_perc)"


def test_a_target_the_router_reaches_elsewhere_is_known_by_either_address() -> None:
    text = """
name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: "lab:latest", huggingface: a/b}]
target: {runtime: {port: 8000}, reach: "10.0.0.7:9000"}
"""
    asked = parse_plan(text, origin="test", folder=Path("/")).plan.target_started
    assert 'instance=~"127[.]0[.]0[.]1:8000|localhost:8000|10[.]0[.]0[.]7:9000"' in asked
