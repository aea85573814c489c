"""Whole intervals out of a real Prometheus: hours of written history, and the faults it can be made to show."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from exposition import BOUNDS, Exposition, answers, requests
from history import scraped_counts, write_blocks
from polling import free_port, until

from crossfade import processes
from crossfade.errors import Unreachable, UserError
from crossfade.judge.evidence import Blind, Interval
from crossfade.lab.prometheus import start_prometheus
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.prometheus.recording import replay

STEP_S = 5
SAMPLES = 1700


@pytest.fixture(scope="module")
def history(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, float]]:
    """Two hours and more, scraped every 5 s: 2 requests a scrape, a restart, a gap of ten minutes, and a second router for a while.

    Gives also when it began.
    """
    promtool = binary.parent / "promtool"
    if not promtool.exists():
        pytest.skip(f"no promtool beside {binary}: nothing can write history")
    folder = tmp_path_factory.mktemp("past")
    began_s = float(int(time.time()) - 3 * 3600) + 0.25
    at = [began_s + STEP_S * index for index in range(SAMPLES) if not 900 < index <= 1020]
    [request] = requests("m", 1)
    first = {request: [(at_s, 2.0 * index if index < 400 else 2.0 * (index - 400)) for index, at_s in enumerate(at)]}
    for series in answers("m", 1, 30):
        first[series] = [(at_s, values * (0.0 if '"10"' in series else 1.0)) for at_s, values in first[request]]
    [other] = requests("m", 1, intended="source", engine="source")
    second = {other: [(at_s + 0.4, 3.0 * index) for index, at_s in enumerate(at[500:600])]}
    samples = {**scraped_counts(first, "a"), **scraped_counts(second, "b")}
    write_blocks(promtool, folder / "prometheus-data" / "samples", samples)
    url = start_prometheus(binary, lab=folder, port=free_port(), targets=[], records=folder / "processes", logs=folder)
    yield url, began_s
    processes.stop_all(folder / "processes", deadline_s=5)


@pytest.fixture(params=[0.0, 1.0], ids=["asked each time", "what routes share is reused"])
def past(history: tuple[str, float], request: pytest.FixtureRequest) -> tuple[PrometheusMetrics, float]:
    url, began_s = history
    return PrometheusMetrics(url, timeout_s=20, stale_after_s=15, reused_for_s=request.param), began_s


def asked(metrics: PrometheusMetrics, since_s: float, ticks: Sequence[float]) -> list[Interval]:
    """What a caller gathers who asks at these times, until there is nothing more."""
    gathered: list[Interval] = []
    for now_s in ticks:
        while found := metrics.complete_intervals("m", since_s=gathered[-1].end_s if gathered else since_s, now_s=now_s):
            if isinstance(found, Blind):
                break
            gathered += found
    return gathered


@pytest.mark.slow
def test_ticks_of_any_spacing_gather_the_same_intervals_and_every_request(past: tuple[PrometheusMetrics, float]) -> None:
    metrics, began_s = past
    since_s, now_s = began_s + 100.123, began_s + STEP_S * (SAMPLES - 1) + 3
    at_once = asked(metrics, since_s, [now_s])
    for spacing_s in (47.7, 600, 3000):
        ticks = [*(since_s + spacing_s * index for index in range(1, int((now_s - since_s) / spacing_s) + 1)), now_s]
        assert asked(metrics, since_s, ticks) == at_once
    assert all(left.end_s == right.start_s for left, right in itertools.pairwise(at_once))
    assert sorted({round(one.end_s - one.start_s) for one in at_once}) == [15, 600]
    counted_s = at_once[-1].end_s - at_once[0].start_s
    lost_at_restart = 2  # the sample of the restart is 0
    scrapes = math.floor((at_once[-1].end_s - began_s) / STEP_S) - math.floor((since_s - began_s) / STEP_S)
    assert counted_s > 8000
    assert sum(one.target.requests for one in at_once) == 2 * (scrapes - 120) - lost_at_restart
    # the first value of the other router is a reference: nobody knows when that one began
    assert sum(one.source.requests for one in at_once) == 3 * 99
    assert {one.target.ttft[-1] for one in at_once if one.target.requests == 6} == {(math.inf, 6)}


@pytest.mark.slow
def test_a_recording_gives_the_same_intervals(past: tuple[PrometheusMetrics, float]) -> None:
    metrics, began_s = past
    since_s, until_s = began_s + 100.123, began_s + 7000
    text = metrics.record("m", since_s=since_s, until_s=until_s)
    recorded = replay(text)
    there = [one for one in asked(metrics, since_s, [began_s + 8000]) if one.end_s <= until_s]
    assert list(recorded) == there
    assert len(there) > 400
    packed = gzip.compress(text.encode())
    assert len(packed) < 40_000


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"crossfade_recording": 9}', '{"crossfade_recording": 1, "route": "m"}'])
def test_what_is_no_recording_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UserError, match="recording"):
        replay(text)


def test_a_recording_of_an_unreachable_prometheus_says_so() -> None:
    metrics = PrometheusMetrics(f"http://127.0.0.1:{free_port()}", timeout_s=2, stale_after_s=5)
    with pytest.raises(Unreachable, match=r"cannot be recorded: .* cannot be reached"):
        metrics.record("m", since_s=time.time() - 60, until_s=time.time())


def why(found: object) -> str:
    return found.why if isinstance(found, Blind) else ""


def gather(metrics: PrometheusMetrics, since_s: float, done: Callable[[list[Interval]], bool]) -> list[Interval]:
    """Ask as a ramp does, each time from the end of what is there, until it is enough."""
    gathered: list[Interval] = []

    def look() -> list[Interval]:
        start_s = gathered[-1].end_s if gathered else since_s
        found = metrics.complete_intervals("m", since_s=start_s, now_s=time.time(), every_s=2)
        if not isinstance(found, Blind):
            gathered.extend(found)
        return gathered

    return until(look, done, within_s=60)


@pytest.mark.slow
def test_a_hanging_a_stopped_and_a_restarted_prometheus_are_blind_and_lose_nothing(launch, exposition: Exposition, tmp_path: Path) -> None:
    port = free_port()
    metrics = PrometheusMetrics(launch(exposition.address, port), timeout_s=1, stale_after_s=6)
    since_s = time.time()

    def ask() -> object:
        return metrics.complete_intervals("m", since_s=since_s, now_s=time.time(), every_s=2)

    exposition.add({**requests("m", 10), **answers("m", 10, 30)})
    seen = gather(metrics, since_s, lambda found: sum(one.target.requests for one in found) >= 10)
    running = processes.find("prometheus", tmp_path / "processes")
    assert running
    os.kill(running.pid, signal.SIGSTOP)
    assert "did not answer within 1s" in why(ask())
    exposition.add(requests("m", 5))
    os.kill(running.pid, signal.SIGCONT)
    processes.stop_all(tmp_path / "processes", deadline_s=10)
    assert "cannot be reached" in why(ask())
    exposition.add({**requests("m", 7), **answers("m", 12, 700)})
    launch(exposition.address, port)
    more = gather(metrics, seen[-1].end_s, lambda found: sum(one.target.requests for one in found) >= 12)
    everything = [*seen, *more]
    assert sum(one.target.requests for one in everything) == 22
    assert sum(dict(one.target.ttft).get(50, 0) for one in everything) == 10
    assert all(left.end_s == right.start_s for left, right in itertools.pairwise(everything))
    assert max(one.end_s - one.start_s for one in more) > 3  # nobody filled the gap with zeros


@pytest.mark.slow
def test_a_failed_scrape_before_an_interval_begins_does_not_make_old_requests_new(launch, exposition: Exposition) -> None:
    """Prometheus marks all series of an endpoint stale when one scrape of it fails; an instant query then finds none."""
    metrics = PrometheusMetrics(launch(exposition.address, free_port()), timeout_s=5, stale_after_s=10)
    exposition.add(requests("m", 1000))
    until(lambda: metrics.read("seen", 'sum(envoy_cf_requests{route="m"})'), lambda one: not isinstance(one, Blind))
    exposition.silent = True
    until(lambda: metrics.read("down", "min(up)"), lambda one: not isinstance(one, Blind) and one.value == 0)
    since_s = time.time()
    exposition.silent = False
    exposition.add(requests("m", 3))
    until(lambda: metrics.read("up", "min(up)"), lambda one: not isinstance(one, Blind) and one.value == 1)
    exposition.add(requests("m", 4))
    found = gather(metrics, since_s, lambda found: sum(one.target.requests for one in found) >= 4)
    assert sum(one.target.requests for one in found) in (4, 7)


def test_a_router_that_is_not_scraped_is_named_with_what_to_add(past: tuple[PrometheusMetrics, float]) -> None:
    metrics, began_s = past
    assert "last read the router" in why(metrics.complete_intervals("m", since_s=began_s, now_s=time.time()))


def test_bounds_are_those_of_the_router_also_for_a_route_nobody_used(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    scraped.add(answers("bounds", 1, 30))
    expected = tuple(float(bound) for bound in BOUNDS[:-1])
    assert until(lambda: metrics.bounds("bounds", "ttft"), lambda found: not isinstance(found, Blind)) == expected
    assert metrics.bounds("never used", "ttft") == expected
    assert "has timed no request yet" in why(metrics.bounds("never used", "duration"))


def test_what_was_mirrored_is_counted_per_target(scraped: Exposition, metrics: PrometheusMetrics) -> None:
    since_s = time.time()

    def shadow(code: str, n: int, cluster: str = "target_shadow") -> dict[str, float]:
        return {f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="{code}",envoy_cluster_name="{cluster}"}}': n}

    slow = {f'envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name="target_shadow",le="{le}"}}': 9 for le in ("500", "+Inf")}
    scraped.add({**shadow("2", 7), **shadow("5", 2), **shadow("2", 50, "target-b_shadow"), **slow})

    def look() -> Sequence[Interval] | Blind:
        return metrics.complete_intervals("mirrored", since_s=since_s, now_s=time.time(), every_s=2)

    found = until(look, lambda found: not isinstance(found, Blind) and any(one.shadow.requests for one in found))
    assert not isinstance(found, Blind)
    [one] = [one.shadow for one in found if one.shadow.requests]
    assert (one.requests, one.errors, dict(one.duration)[math.inf], one.ttft) == (9, 2, 9, ())
