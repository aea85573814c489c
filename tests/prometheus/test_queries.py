"""The queries for people say the same as the judge's own counting."""

from __future__ import annotations

import itertools
import time

import pytest
from exposition import Exposition, answers, requests
from polling import until

from crossfade.judge.evidence import Blind
from crossfade.prometheus import queries
from crossfade.prometheus.metrics import PrometheusMetrics

KINDS = [
    (engine, code, flags)
    for engine, code, flags in itertools.product(
        ("target", "source", "-"), ("200", "404", "413", "500"), ("-", "DC", "UPE", "UF,URX", "DC,UPE")
    )
]


def number(metrics: PrometheusMetrics, promql: str) -> float:
    reading = metrics.read("shown", promql)
    assert not isinstance(reading, Blind), f"{promql}: {reading.why}"
    return reading.value


def test_errors_by_intended_engine_are_those_the_judge_counts(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    """Every mix of engine, code and flags, each with a count of its own."""
    _count(scraped, metrics, dict.fromkeys(KINDS, 1))
    counts = {kind: 10 + 7 * index for index, kind in enumerate(KINDS)}
    _count(scraped, metrics, counts)
    fates = {kind: queries.fate("target", *kind) for kind in KINDS}
    failed = sum(count for kind, count in counts.items() if fates[kind] == "failed")
    judged = sum(count for kind, count in counts.items() if fates[kind] != "left_out")
    assert number(metrics, queries.failure_share("mix", "target", 60)) == pytest.approx(failed / judged, rel=0.05)
    # a window's edges are extrapolated to, so a count is only about right
    assert number(metrics, queries.errors("mix", "target", 60)) == pytest.approx(failed, rel=0.5)
    assert number(metrics, queries.requests("mix", "target", 60)) == pytest.approx(judged, rel=0.5)
    assert number(metrics, queries.errors("mix", "source", 60)) == 0


def _count(scraped: Exposition, metrics: PrometheusMetrics, counts: dict[tuple[str, str, str], int]) -> None:
    """Add these and wait until Prometheus has read them."""
    added: dict[str, float] = {}
    for (engine, code, flags), count in counts.items():
        added |= requests("mix", count, engine=engine, code=code, flags=flags)
    since_s = time.time()
    scraped.add(added)
    total = sum(counts.values())
    until(lambda: metrics.read("all", 'sum(envoy_cf_requests{route="mix"})'), lambda one: not isinstance(one, Blind) and one.value >= total)
    assert time.time() - since_s < 15


def test_slow_requests_at_a_bound_are_counted(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    scraped.add(dict.fromkeys(answers("slow", 1, 5), 0.0))
    until(lambda: metrics.read("there", 'sum(envoy_cf_ttft_bucket{route="slow"})'), lambda one: not isinstance(one, Blind))
    scraped.add(answers("slow", 60, 5))
    scraped.add(answers("slow", 20, 700))
    found = until(
        lambda: metrics.read("slow", queries.slow_requests("slow", "target", "ttft", 500, 60)),
        lambda one: not isinstance(one, Blind) and one.value > 0,
    )
    assert not isinstance(found, Blind)
    assert found.value == pytest.approx(20, rel=0.5)
    assert number(metrics, queries.slow_share("slow", "target", "ttft", 500, 60)) == pytest.approx(0.25, abs=0.02)


def test_share_shadow_and_active_requests_are_read_by_name(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    def xx(cluster: str, klass: str) -> str:
        return f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="{klass}",envoy_cluster_name="{cluster}"}}'

    def active(cluster: str) -> str:
        return f'envoy_cluster_upstream_rq_active{{envoy_cluster_name="{cluster}"}}'

    first = {xx("target_shadow", "2"): 0.0, xx("target_shadow", "5"): 0.0, xx("target-b_shadow", "2"): 0.0}
    asked = {**requests("named", 1), **requests("named", 1, intended="source", engine="source")}
    scraped.add({**first, **asked, active("target"): 3, active("target-b"): 5, active("source"): 7})
    until(lambda: metrics.read("active", queries.active_requests("target")), lambda one: not isinstance(one, Blind))
    added = {**requests("named", 30), **requests("named", 70, intended="source", engine="source")}
    scraped.add({**added, xx("target_shadow", "2"): 90, xx("target_shadow", "5"): 10, xx("target-b_shadow", "2"): 50})
    until(
        lambda: metrics.read("shadow", queries.shadow_requests(60, "b")),
        lambda one: not isinstance(one, Blind) and one.value > 0,
    )
    assert number(metrics, queries.share_off("named", 2000, 60)) == pytest.approx(0.1, abs=0.02)
    assert number(metrics, queries.shadow_failure_share(60)) == pytest.approx(0.1, abs=0.02)
    assert number(metrics, queries.shadow_failure_share(60, "b")) == 0
    assert [number(metrics, queries.active_requests("target", name)) for name in ("", "b")] == [3, 5]
    assert number(metrics, queries.active_requests("source")) == 7
