"""A gate that can never give a number is refused before a ramp waits for it; one that only has none now is not."""

from __future__ import annotations

import time

import pytest
from exposition import Exposition
from polling import free_port, until

from crossfade.judge.evidence import Blind, Reading, Refused
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.prometheus.selectors import compares, selectors


@pytest.fixture(scope="module")
def vllm(scraped: Exposition, url: str) -> PrometheusMetrics:
    """A Prometheus that has seen a vLLM."""
    metrics = PrometheusMetrics(url, timeout_s=5, stale_after_s=5)
    scraped.add({'vllm:kv_cache_usage_perc{engine="0"}': 0.25, 'vllm:kv_cache_usage_perc{engine="1"}': 0.5, "vllm:num_requests_waiting": 0})
    until(lambda: metrics.read("there", "max(vllm:num_requests_waiting)"), lambda one: not isinstance(one, Blind))
    return metrics


@pytest.mark.parametrize(
    ("promql", "instead"),
    [
        ("max(vllm:gpu_cache_usage_perc)", "Prometheus has never seen a metric vllm:gpu_cache_usage_perc; write vllm:kv_cache_usage_perc"),
        ("max(some_thing_else_entirely)", "never seen a metric some_thing_else_entirely; look the name up"),
        ('max(vllm:kv_cache_usage_perc{engine="2"})', 'exists, but never with engine="2"; it has engine='),
        ('max(vllm:kv_cache_usage_perc{modle_name="m"})', 'modle_name="m"; it has no label modle_name'),
        ("vllm:kv_cache_usage_perc", "gives 2 values where one number is needed (they differ in engine); wrap it in max()"),
        ("vllm:kv_cache_usage_perc[1m]", "apply a function such as max_over_time()"),
        ("vllm:num_requests_waiting / vllm:num_requests_waiting", "gives NaN"),
        ("1 / vector(0)", "gives +Inf"),
        ("max(vllm:kv_cache_usage_perc) > 0.9", "the limit in below: or above:"),
        ("max(vllm:kv_cache_usage_perc", "parse error"),
        ('"text"', "no number"),
    ],
)
def test_what_can_never_be_one_number_is_refused_with_what_to_write(vllm: PrometheusMetrics, promql: str, instead: str) -> None:
    found = vllm.probe("kv_cache", promql)
    assert isinstance(found, Refused), found
    assert found.gate == "kv_cache"
    assert instead in found.why


def test_a_good_query_gives_its_number(vllm: PrometheusMetrics) -> None:
    assert vllm.probe("kv_cache", "max(vllm:kv_cache_usage_perc)") == Reading(gate="kv_cache", value=0.5)


def test_a_metric_that_only_has_no_sample_now_is_blindness(vllm: PrometheusMetrics, scraped: Exposition) -> None:
    scraped.add({"came_and_went": 1})
    until(lambda: vllm.read("came", "max(came_and_went)"), lambda one: not isinstance(one, Blind))
    scraped.drop("came_and_went")
    until(lambda: vllm.read("went", "max(came_and_went)"), lambda one: isinstance(one, Blind))
    found = vllm.probe("gone", "max(came_and_went) + max(up)")
    assert isinstance(found, Blind)
    assert found.why.startswith("no sample of came_and_went now")


def test_two_sides_that_never_meet_are_named(vllm: PrometheusMetrics) -> None:
    found = vllm.probe("ratio", "vllm:kv_cache_usage_perc / vllm:num_requests_waiting")
    assert isinstance(found, Blind)
    assert "same labels" in found.why


def test_before_the_target_runs_nobody_can_know_its_metrics(launch, exposition: Exposition) -> None:
    metrics = PrometheusMetrics(launch(exposition.address, free_port()), timeout_s=5, stale_after_s=5)
    found = metrics.probe("kv_cache", "max(vllm:kv_cache_usage_perc)")
    assert isinstance(found, Blind)
    assert "scraped no vLLM yet" in found.why


def test_an_unreachable_prometheus_refuses_nothing() -> None:
    metrics = PrometheusMetrics(f"http://127.0.0.1:{free_port()}", timeout_s=2, stale_after_s=5)
    found = metrics.probe("kv_cache", "max(nothing)")
    assert isinstance(found, Blind)
    assert "cannot be reached" in found.why
    bounds = metrics.bounds("m", "ttft")
    assert isinstance(bounds, Blind)
    assert "cannot be reached" in bounds.why
    assert isinstance(metrics.complete_intervals("m", since_s=time.time() - 60, now_s=time.time()), Blind)


@pytest.mark.parametrize(
    ("promql", "names"),
    [
        ("max(a)", ["a"]),
        ("sum by (b) (rate(a{c='d'}[5m])) / on (e) group_left (f) count(g offset 1h)", ["a", "g"]),
        ('a:b{x="}",y=~"max(z)"} or vector(0) # max(comment)', ["a:b"]),
        ('{__name__="named"}', ["named"]),
        ("histogram_quantile(0.95, sum by (le) (rate(h_bucket[1m30s])))", ["h_bucket"]),
        ("1e3 + 0x1F + Inf", []),
        ("max_over_time(a[10m:1m]) unless bool_thing", ["a", "bool_thing"]),
    ],
)
def test_the_metrics_of_a_query_are_found(promql: str, names: list[str]) -> None:
    assert [selector.name for selector in selectors(promql)] == names


def test_a_comparison_drops_its_result_unless_it_says_bool() -> None:
    assert compares('max(a{b!="c"}) > 1')
    assert not compares('max(a{b!="c",d=~">"})')
    assert not compares("a > bool 1")
