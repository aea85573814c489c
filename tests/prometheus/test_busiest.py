"""How much was under way at once, out of most of a day of a real Prometheus' samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from history import with_instance, write_blocks
from polling import free_port

from crossfade import processes
from crossfade.lab.prometheus import start_prometheus
from crossfade.plan.model import PrometheusPlan
from crossfade.prometheus.gauges import gauge_by
from crossfade.prometheus.queries import SPENT_MS, busiest
from crossfade.rollout.names import route_name

EVERY_S, HOUR = 15, 3600 // 15
AT_ONCE = {"quiet": [1.5] * 20, route_name("bu/sy"): [2.0] * 10 + [9.0] + [2.0] * 9, "long-ago": [7.0] * 3 + [0.0] * 17}
"""Requests under way in each hour; the last one ended just now."""


@pytest.fixture(scope="module")
def url(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A router that was restarted every five hours, with answers of two kinds."""
    promtool = binary.parent / "promtool"
    if not promtool.exists():
        pytest.skip(f"no promtool beside {binary}: nothing can write history")
    folder, began_s = tmp_path_factory.mktemp("busiest"), float(int(time.time()) - 20 * 3600)
    samples: dict[str, list[tuple[float, float]]] = {}
    for route, hours in AT_ONCE.items():
        spent_ms = 0.0
        for at in range(20 * HOUR):
            spent_ms = 0.0 if at % (5 * HOUR) == 0 else spent_ms + hours[at // HOUR] * EVERY_S * 1000
            for arm, part in (("source", 0.75), ("target", 0.25)):
                series = with_instance(f'{SPENT_MS}{{route="{route}",intended="{arm}",engine="{arm}"}}', "r:1")
                samples.setdefault(series, []).append((began_s + at * EVERY_S, part * spent_ms))
    write_blocks(promtool, folder / "prometheus-data" / "samples", samples)
    yield start_prometheus(binary, lab=folder, port=free_port(), targets=[], records=folder / "processes", logs=folder)
    processes.stop_all(folder / "processes", deadline_s=5)


def at_once(url: str, route: str, window_s: float) -> float | None:
    return gauge_by(url, busiest(route, window_s), (), timeout_s=20).get(())


def test_the_busiest_five_minutes_count_whoever_answered(url: str) -> None:
    assert at_once(url, "quiet", 7 * 86_400) == pytest.approx(1.5, rel=0.02)
    assert at_once(url, route_name("bu/sy"), 7 * 86_400) == pytest.approx(9.0, rel=0.02)


def test_what_is_older_than_the_window_does_not_count(url: str) -> None:
    assert at_once(url, "long-ago", 7 * 86_400) == pytest.approx(7.0, rel=0.02)
    assert at_once(url, "long-ago", 12 * 3600) == 0


def test_an_assessment_is_told_what_came_through_the_router_and_why_when_nothing_is_known(url: str) -> None:
    from tasks.sizing import seen_at_router

    busy = seen_at_router(PrometheusPlan.model_validate({"url": url}), "bu/sy")
    assert busy.at_once == pytest.approx(9.0, rel=0.02)
    assert busy.said.startswith("at most 9.0")
    assert seen_at_router(PrometheusPlan.model_validate({"url": url}), "no/body").at_once == 0
    gone = seen_at_router(PrometheusPlan.model_validate({"url": f"http://127.0.0.1:{free_port()}"}), "bu/sy")
    assert (gone.at_once, gone.said.startswith("unknown")) == (0, True)


def test_a_route_nobody_asked_says_nothing(url: str) -> None:
    assert at_once(url, "nobody", 7 * 86_400) is None
