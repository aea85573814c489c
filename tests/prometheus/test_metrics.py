"""Counting through a real Prometheus that scrapes a real endpoint once a second."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest
from exposition import Exposition, answers, requests
from polling import free_port, until

from crossfade.judge.evidence import Blind, Counts, Evidence, Interval
from crossfade.prometheus import queries
from crossfade.prometheus.metrics import PrometheusMetrics

Found = Sequence[Interval] | Blind


def total(found: Found, arm: str = "target") -> Counts:
    assert not isinstance(found, Blind), found.why
    source, target = Evidence(boundary="step", intervals=tuple(found)).totals()
    return source if arm == "source" else target


def counted(metrics: PrometheusMetrics, route: str, since_s: float, n: int, arm: str = "target") -> Found:
    """The intervals of a route once they hold `n` requests."""

    def look() -> Found:
        return metrics.intervals(route, since_s=since_s, now_s=time.time())

    return until(look, lambda found: not isinstance(found, Blind) and total(found, arm).requests >= n)


def test_a_series_that_appears_after_the_start_counts_from_zero(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    since_s = time.time()
    scraped.add({**requests("new", 7), **requests("new", 2, code="500"), **answers("new", 7, 30)})
    found = total(counted(metrics, "new", since_s, 9))
    assert (found.requests, found.errors) == (9, 2)
    assert dict(found.ttft)[10] == 0
    assert dict(found.ttft)[50] == dict(found.ttft)[float("inf")] == 7


def test_only_what_was_counted_after_the_start_is_evidence(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    before_s = time.time()
    scraped.add(requests("old", 1000))
    counted(metrics, "old", before_s, 1000)
    since_s = time.time()
    scraped.add(requests("old", 5))
    assert total(counted(metrics, "old", since_s, 5)).requests == 5


def test_failures_hidden_by_the_source_count_against_the_target_and_clients_that_left_count_for_nobody(
    scraped: Exposition, metrics: PrometheusMetrics
) -> None:
    since_s = time.time()
    scraped.add(
        {
            **requests("fates", 40),
            **requests("fates", 1, engine="source"),  # answered, but not by the target
            **requests("fates", 2, flags="UPE"),  # cut half-way with code 200
            **requests("fates", 4, engine="-", code="503", flags="UF"),
            **requests("fates", 8, flags="DC"),
            **requests("fates", 16, intended="broken", engine="source", code="404"),
            **requests("fates", 3, code="404"),  # the engine's own word to a client's mistake
            **requests("fates", 50, intended="source", engine="source"),
            **requests("fates", 5, intended="source", engine="source", code="500"),
        }
    )
    found = counted(metrics, "fates", since_s, 66)
    assert (total(found).requests, total(found).errors) == (66, 23)
    assert (total(found, "source").requests, total(found, "source").errors) == (55, 5)


@pytest.mark.slow
def test_a_restarted_router_loses_nothing_that_was_scraped_and_invents_nothing(launch, exposition: Exposition) -> None:
    metrics = PrometheusMetrics(launch(exposition.address, free_port()), timeout_s=5, stale_after_s=5)
    since_s = time.time()
    exposition.add({**requests("reset", 100), **answers("reset", 100, 5)})
    counted(metrics, "reset", since_s, 100)
    exposition.restart({**requests("reset", 30), **answers("reset", 30, 700)})
    found = total(counted(metrics, "reset", since_s, 130))
    assert found.requests == 130
    assert (dict(found.ttft)[10], dict(found.ttft)[500], dict(found.ttft)[float("inf")]) == (100, 100, 130)


@pytest.mark.slow
def test_a_silent_router_is_blind_and_what_it_counted_meanwhile_is_not_lost(launch, exposition: Exposition) -> None:
    metrics = PrometheusMetrics(launch(exposition.address, free_port()), timeout_s=5, stale_after_s=3)
    since_s = time.time()
    exposition.add(requests("silent", 10))
    counted(metrics, "silent", since_s, 10)
    exposition.silent = True
    blind = until(lambda: metrics.intervals("silent", since_s=since_s, now_s=time.time()), lambda found: isinstance(found, Blind))
    assert isinstance(blind, Blind)
    assert "newest sample is" in blind.why
    exposition.add(requests("silent", 10))
    exposition.silent = False
    assert total(counted(metrics, "silent", since_s, 20)).requests == 20


@pytest.mark.slow
def test_a_restarted_prometheus_goes_on_where_it_was(launch, exposition: Exposition, tmp_path) -> None:
    from crossfade import processes

    port = free_port()
    metrics = PrometheusMetrics(launch(exposition.address, port), timeout_s=1, stale_after_s=3)
    since_s = time.time()
    exposition.add(requests("again", 10))
    counted(metrics, "again", since_s, 10)
    processes.stop_all(tmp_path / "processes", deadline_s=10)
    down = metrics.intervals("again", since_s=since_s, now_s=time.time())
    assert isinstance(down, Blind)
    assert "cannot be reached" in down.why
    exposition.add(requests("again", 5))
    launch(exposition.address, port)
    assert total(counted(metrics, "again", since_s, 15)).requests == 15


@pytest.mark.slow
def test_what_a_router_counted_before_prometheus_first_read_it_is_no_evidence(launch, exposition: Exposition) -> None:
    since_s = time.time()
    exposition.add(requests("before", 5000))
    metrics = PrometheusMetrics(launch(exposition.address, free_port()), timeout_s=5, stale_after_s=5)
    exposition.add(requests("before", 3))
    assert total(counted(metrics, "before", since_s, 3)).requests == 3


def test_a_route_nobody_used_has_an_interval_of_zeros(metrics: PrometheusMetrics) -> None:
    found = metrics.intervals("nobody", since_s=time.time() - 3, now_s=time.time())
    assert total(found) == Counts()


def test_intervals_are_fifteen_seconds_and_together_hold_everything_once(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    since_s = time.time() - 40
    scraped.add(requests("long", 12))
    found = counted(metrics, "long", since_s, 12)
    assert not isinstance(found, Blind)
    assert [round(interval.end_s - interval.start_s, 3) for interval in found[:2]] == [15, 15]
    assert all(left.end_s == right.start_s for left, right in itertools.pairwise(found))
    assert found[-1].end_s - found[-1].start_s <= 15
    assert total(found).requests == 12


def test_queries_for_people_agree_with_what_was_counted(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    since_s = time.time()
    # a rate sees nothing of a series' first value, so each has one before
    scraped.add({**requests("shown", 1), **requests("shown", 1, engine="source"), **answers("shown", 1, 5)})
    scraped.add(requests("shown", 1, intended="source", engine="source"))
    counted(metrics, "shown", since_s, 2)
    scraped.add({**requests("shown", 20), **requests("shown", 10, engine="source"), **answers("shown", 20, 5)})
    scraped.add(answers("shown", 10, 700))
    scraped.add(requests("shown", 30, intended="source", engine="source"))
    counted(metrics, "shown", since_s, 32)
    for name, promql, expected in (
        ("failures", queries.failure_share("shown", "target", 30), 10 / 30),
        ("slow", queries.slow_share("shown", "target", "ttft", 500, 30), 10 / 30),
        ("share", queries.observed_share("shown", 30), 30 / 60),
        ("no failures", queries.failure_share("shown", "source", 30), 0),
    ):
        reading = metrics.read(name, promql)
        assert not isinstance(reading, Blind), reading.why
        assert reading.value == pytest.approx(expected, abs=0.05), name  # a rate extrapolates
