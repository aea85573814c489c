"""`crossfade ramp estimate` against a real Prometheus: the traffic it saw, steps that take too long, and gates that can never pass."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from exposition import Exposition, answers, requests
from polling import free_port, until
from rich.console import Console

from crossfade.errors import GateFailed, UserError
from crossfade.foresight import print_estimate
from crossfade.judge.evidence import Blind
from crossfade.judge.rules import Rules
from crossfade.plan.gates import Gate, PromqlGate
from crossfade.plan.model import RampPlan
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.ramp.foresight import doubts

PLAN = """
name: {name}
source: {{url: "http://127.0.0.1:1"}}
models: [{{ollama: "m:latest", huggingface: a/b}}]
prometheus: {{url: "{url}"}}
parity: {{skip: nothing is served here}}
gates: {gates}
ramp: {{deadline: 1h, steps: [1%, 5%, 50%, 100%]}}
"""

Estimate = Callable[..., str]


@pytest.fixture
def estimate(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estimate:
    """The command's output for a plan with these gates."""
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))

    def run(gates: str, *, name: str = "foreseen", rps: float = 0.0, prometheus: str = url) -> str:
        (tmp_path / "plan.yaml").write_text(PLAN.format(name=name, gates=gates, url=prometheus))
        printed = io.StringIO()
        print_estimate(str(tmp_path / "plan.yaml"), rps, Console(file=printed, width=160))
        return printed.getvalue()

    return run


@pytest.fixture(scope="module")
def measured(scraped: Exposition, url: str) -> str:
    """A plan whose model has had traffic: name of the plan."""
    metrics, route = PrometheusMetrics(url, timeout_s=5, stale_after_s=5), "measured.m-latest"
    [series] = requests(route, 0, intended="source", engine="source")
    scraped.add({series: 0, **answers(route, 7, 30, arm="source")})
    until(lambda: metrics.bounds(route, "ttft"), lambda found: not isinstance(found, Blind))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        scraped.add({series: 360})
        seen = metrics.read("traffic", f'sum(increase(envoy_cf_requests{{route="{route}"}}[1h]))')
        if not isinstance(seen, Blind) and seen.value > 3000:
            return "measured"
        time.sleep(0.2)
    raise AssertionError("no traffic was seen")


def test_steps_take_what_the_measured_traffic_allows(measured: str, estimate: Estimate) -> None:
    printed = estimate("{error_rate: {at_most: 1%}}", name=measured)
    assert "measured/m-latest" in printed
    assert "requests a second for a target as good as the source" in printed
    assert "error_rate" in printed


def test_a_step_that_cannot_end_before_its_deadline_is_named_with_what_would_help(estimate: Estimate) -> None:
    printed = estimate("{error_rate: {at_most: 1%, no_worse_than_source: 2x}}", rps=0.5)
    assert "The step at 1% is not expected to end before its deadline." in printed
    for help_ in ("shadow: 100%", "steps: [10%, 50%, 100%]", "no_worse_than_source twice as far from the source"):
        assert f"With {help_} the whole ramp would take about" in printed


@pytest.mark.parametrize(
    ("gates", "refused"),
    [
        (
            "{cache: {promql: 'max(no_such_metric_at_all)', below: 1}}",
            "gate cache: Prometheus has never seen a metric no_such_metric_at_all",
        ),
        ("{several: {promql: 'envoy_cf_ttft_bucket', below: 1}}", "gate several: the query gives"),
        ("{nothing: {promql: '0 * (1 / 0)', below: 1}}", "gate nothing: the query gives NaN; a division by zero"),
        ("{ttft_p95: {at_most: 300ms}}", "gate ttft_p95: at_most: 300ms is no bound of the histogram; write 100ms or 500ms"),
        ("{ttft_p95: {no_worse_than_source: 1.3x}}", "write 5x or more"),
    ],
)
def test_a_gate_that_can_never_pass_is_refused_by_name_with_what_to_write(
    measured: str, estimate: Estimate, gates: str, refused: str
) -> None:
    with pytest.raises(GateFailed) as failed:
        estimate(gates, name=measured)
    assert refused in str(failed.value)


def test_long_before_the_ramp_the_same_is_only_a_doubt(url: str) -> None:
    gates: dict[str, Gate] = {
        "typo": PromqlGate(promql="max(router_no_such)", below=1),
        "later": PromqlGate(promql="max(vllm:nothing_of_the_kind)", below=1),
        "fine": PromqlGate(promql="max(up)", above=0.5),
    }
    metrics = PrometheusMetrics(url, timeout_s=5, stale_after_s=5)
    found = doubts(metrics, Rules(gates=gates, ramp=RampPlan()), "measured.m-latest")
    assert found[0].startswith(
        "The ramp would be refused for its gate typo, unless that changes until the target runs: Prometheus has never"
    )
    assert not any("fine" in one for one in found)


def test_traffic_nobody_knows_is_asked_for(estimate: Estimate) -> None:
    with pytest.raises(UserError, match="Say it with --rps"):
        estimate("{error_rate: {at_most: 1%}}", name="never-asked")
    with pytest.raises(UserError, match="cannot be reached"):
        estimate("{error_rate: {at_most: 1%}}", prometheus=f"http://127.0.0.1:{free_port()}")


def test_a_prometheus_that_is_away_hinders_no_estimate_and_is_said(estimate: Estimate) -> None:
    printed = estimate("{error_rate: {at_most: 1%}, ttft_p95: {at_most: 500ms}}", rps=10, prometheus=f"http://127.0.0.1:{free_port()}")
    assert "the bounds of ttft cannot be read now" in printed
    assert "at 10 requests a second" in printed
