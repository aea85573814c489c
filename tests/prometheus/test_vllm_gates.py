"""vLLM's own signals through a real Prometheus: in each hour of its history one of them is bad, and only the gate of that one stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from history import with_instance, write_blocks
from polling import free_port
from pydantic import TypeAdapter

from crossfade import processes
from crossfade.judge.evidence import Counts, Evidence, Interval, Reading
from crossfade.judge.gate import Rules, judge
from crossfade.judge.state import begin
from crossfade.judge.verdict import Decision
from crossfade.lab.prometheus import start_prometheus
from crossfade.plan.gates import Gate, Gates, PromqlGate
from crossfade.plan.model import JudgePlan, RampPlan
from crossfade.prometheus.asking import Asking
from crossfade.prometheus.numbers import one_number

EVERY_S, HOURS = 15, ("well", "kv_cache", "queue", "preemptions", "heartbeat", "free_form", "idle")
GATES: dict[str, Gate] = dict(
    TypeAdapter(Gates).validate_python(
        {
            **{name: {} for name in ("kv_cache", "queue", "preemptions", "heartbeat")},
            "free_form": {"promql": "max(vllm:lora_requests_info)", "below": 3},
        }
    )
)
RULES = Rules(gates=GATES, ramp=RampPlan.model_validate({"hold": "0s"}), judge=JudgePlan())


@pytest.fixture(scope="module")
def vllm(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asking, float]]:
    """Two engines scraped for seven hours, and when that began."""
    promtool = binary.parent / "promtool"
    if not promtool.exists():
        pytest.skip(f"no promtool beside {binary}: nothing can write history")
    folder, began_s = tmp_path_factory.mktemp("vllm"), float(int(time.time()) - (len(HOURS) + 1) * 3600)
    samples: dict[str, list[tuple[float, float]]] = {}
    counted = {"num_preemptions_total": 0.0, "request_success_total": 0.0, "iteration_tokens_total_count": 0.0}
    for at in range(len(HOURS) * 3600 // EVERY_S):
        bad = HOURS[at * EVERY_S // 3600]
        counted["num_preemptions_total"] += bad == "preemptions"
        counted["request_success_total"] += 30 * (bad not in ("heartbeat", "idle"))
        counted["iteration_tokens_total_count"] += 500 * (bad not in ("heartbeat", "idle"))
        seen = {
            **counted,
            "kv_cache_usage_perc": 0.95 if bad == "kv_cache" else 0.4,
            "num_requests_waiting": 2 if bad == "queue" else 0,
            "num_requests_running": 0 if bad == "idle" else 3,
            "lora_requests_info": 3 if bad == "free_form" else 1,
        }
        for name, value in seen.items():
            for engine in ("0", "1"):
                quiet = engine == "1" and name in ("kv_cache_usage_perc", "num_requests_waiting")  # one full engine is enough
                series = with_instance(f'vllm:{name}{{engine="{engine}"}}', "b:1")
                samples.setdefault(series, []).append((began_s + at * EVERY_S, 0.0 if quiet else float(value)))
    write_blocks(promtool, folder / "prometheus-data" / "samples", samples)
    url = start_prometheus(binary, lab=folder, port=free_port(), targets=[], records=folder / "processes", logs=folder)
    yield Asking(url, timeout_s=20), began_s
    processes.stop_all(folder / "processes", deadline_s=5)


def stopped_by(vllm: tuple[Asking, float], hour: str) -> dict[str, Decision]:
    """The gates that do not promote at the end of an hour, while the counts are all good."""
    asking, began_s = vllm
    at_s = began_s + 3600 * (HOURS.index(hour) + 1) - 2 * EVERY_S
    readings = tuple(
        Reading(gate=name, value=one_number(asking.ask(gate.promql, at_s=at_s)))
        for name, gate in GATES.items()
        if isinstance(gate, PromqlGate)
    )
    well = Counts(requests=500)
    intervals = tuple(Interval(start_s=15.0 * at, end_s=15.0 * at + 15, source=well, target=well) for at in range(12))
    evidence = Evidence(boundary="soak", step=4, share_bp=10_000, held_s=600, intervals=intervals, readings=readings)
    verdict = judge(RULES, begin("1@0", judge=RULES.judge, since_s=0.0, halvings=0), evidence).verdict
    return {finding.gate: finding.decision for finding in verdict.findings if finding.decision is not Decision.PROMOTE}


@pytest.mark.parametrize("gate", ["kv_cache", "queue", "preemptions", "free_form"])
def test_a_full_target_is_held_by_the_one_gate_that_sees_it(vllm: tuple[Asking, float], gate: str) -> None:
    assert stopped_by(vllm, gate) == {gate: Decision.HOLD}


def test_a_target_whose_engine_stands_still_is_rolled_back_by_its_heartbeat(vllm: tuple[Asking, float]) -> None:
    assert stopped_by(vllm, "heartbeat") == {"heartbeat": Decision.ROLL_BACK}


@pytest.mark.parametrize("hour", ["well", "idle"])
def test_a_target_that_is_well_or_that_nobody_asks_is_stopped_by_none(vllm: tuple[Asking, float], hour: str) -> None:
    assert stopped_by(vllm, hour) == {}
