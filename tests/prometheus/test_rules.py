"""The rule file of a plan is one Prometheus takes, and its alerts fire on the counts they name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from exposition import Exposition, answers, requests
from polling import until

from crossfade.judge.evidence import Blind
from crossfade.plan.model import Plan
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.prometheus.rules import alert_rules

MIGRATION = "support/llama"
BOUNDS = (10.0, 50.0, 100.0, 500.0, 1000.0, 20_000.0)


def plan(**gates: object) -> Plan:
    return Plan.model_validate(
        {
            "name": "support",
            "source": {"url": "http://127.0.0.1:11434"},
            "models": [{"ollama": "llama", "huggingface": "some/llama"}],
            "gates": gates,
        }
    )


def rules(text: str) -> dict[str, dict[str, dict[str, str]]]:
    return {rule["labels"]["crossfade_gate"]: rule for rule in yaml.safe_load(text)["groups"][0]["rules"]}


ALL = plan(
    error_rate={"at_most": "1%", "no_worse_than_source": "2x"},
    ttft_p95={"at_most": "450ms", "no_worse_than_source": "1.3x"},
    kv_cache={"promql": "max(vllm:kv_cache_usage_perc) # of all", "below": 0.9, "breach": "roll_back"},
    **{"odd {{ name": {"promql": 'max(up{job="x"})', "above": 0.5}},
)


def test_promtool_finds_no_fault(binary: Path, tmp_path: Path) -> None:
    promtool = binary.parent / "promtool"
    if not promtool.exists():
        pytest.skip(f"no promtool beside {binary}")
    file = tmp_path / "rules.yml"
    file.write_text(alert_rules(ALL, MIGRATION, bounds_ms=BOUNDS))
    done = subprocess.run([promtool, "check", "rules", "--lint-fatal", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 rules found" in done.stdout


def test_what_the_plan_rolls_back_for_is_critical_and_the_rest_a_warning() -> None:
    found = rules(alert_rules(ALL, MIGRATION, bounds_ms=BOUNDS))
    assert {gate: rule["labels"]["severity"] for gate, rule in found.items()} == {
        "guard_errors": "critical",
        "guard_slow": "critical",
        "error_rate": "warning",
        "ttft_p95": "warning",
        "kv_cache": "critical",
        'odd {{ "{{" }} name': "warning",
    }
    assert {rule["labels"]["crossfade_migration"] for rule in found.values()} == {MIGRATION}
    assert all({"summary", "value", "next_action"} <= rule["annotations"].keys() for rule in found.values())


def test_a_limit_between_two_bounds_becomes_the_upper_one_and_one_above_all_has_no_rule() -> None:
    gates = plan(ttft_p95={"at_most": "450ms"}, duration_p99={"at_most": "60s"})
    found = rules(alert_rules(gates, MIGRATION, bounds_ms=BOUNDS))
    assert 'le=~"500' in str(found["ttft_p95"]["expr"])
    assert "duration_p99" not in found


def test_the_guards_alert_is_there_when_the_target_fails_and_not_before(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    found = rules(alert_rules(plan(), MIGRATION, bounds_ms=BOUNDS))
    failing, slow = str(found["guard_errors"]["expr"]), str(found["guard_slow"]["expr"])
    route = "support.llama"
    scraped.add({**requests(route, 1), **requests(route, 1, code="500"), **answers(route, 1, 5)})
    until(lambda: metrics.read("there", f'sum(envoy_cf_requests{{route="{route}"}})'), lambda one: not isinstance(one, Blind))
    assert isinstance(metrics.read("quiet", failing), Blind)
    scraped.add({**requests(route, 30), **requests(route, 30, code="500"), **answers(route, 30, 5)})
    until(lambda: metrics.read("fires", failing), lambda one: not isinstance(one, Blind))
    assert isinstance(metrics.read("fast", slow), Blind)
