"""Intervals tile time: whoever asks, whenever and however often, they are the same list and hold every request once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.judge.evidence import Interval
from crossfade.prometheus.increase import Series
from crossfade.prometheus.queries import REQUESTS, ROUTER_ALIVE
from crossfade.prometheus.recording import Recording
from crossfade.prometheus.tiling import all_there_until, tile

T0 = 1_700_000_000_123  # ms; a moment that no float of seconds holds exactly
EVERY = 15_000
HANDOVER = 15_000


def sampled(instance: str, samples: dict[int, float | None], *, intended: str = "target") -> tuple[Series, ...]:
    """A process scraped at these milliseconds after T0 with these counts; None: it had none yet."""
    own = frozenset({("job", "crossfade-router"), ("instance", instance)})
    labels = own | {("route", "m"), ("intended", intended), ("engine", intended), ("code", "200"), ("flags", "-")}
    alive = tuple(((T0 + at) / 1000, {float("inf"): 1.0}) for at in sorted(samples))
    counts = tuple(((T0 + at) / 1000, {float("inf"): count}) for at, count in sorted(samples.items()) if count is not None)
    return (Series(ROUTER_ALIVE, own, alive), Series(REQUESTS, labels, counts))


def samples_of(*series: Series, began: dict[str, int] | None = None) -> Recording:
    began_ms = {("crossfade-router", instance): T0 + at for instance, at in (began or {}).items()}
    kept = tuple(one for one in series if one.samples)
    return Recording("m", T0 / 1000, T0 / 1000, HANDOVER, kept, began_ms)


def tiled(samples: Recording, since: int, until: int, every: int = EVERY) -> Sequence[Interval]:
    return tile(samples, since_ms=T0 + since, until_ms=T0 + until, every_ms=every, handover_ms=HANDOVER)


def shown(intervals: Sequence[Interval]) -> list[tuple[int, int, int]]:
    return [(round(one.start_s * 1000) - T0, round(one.end_s * 1000) - T0, one.target.requests) for one in intervals]


def every_second(first: int, last: int) -> range:
    return range(first * 1000, last * 1000 + 1, 1000)


def test_a_scraped_router_nobody_asked_gives_zeros_and_an_unscraped_one_gives_nothing() -> None:
    asked_nothing = samples_of(*sampled("a", dict.fromkeys(every_second(-5, 40))))
    assert shown(tiled(asked_nothing, 0, 40_000)) == [(0, 15_000, 0), (15_000, 30_000, 0)]
    assert shown(tiled(samples_of(*sampled("a", {-1000: 0})), 0, 40_000)) == []


def test_an_interval_grows_over_a_gap_and_holds_what_came_after_it() -> None:
    counts: dict[int, float | None] = dict.fromkeys(every_second(-5, 14), 10)
    counts |= dict.fromkeys(every_second(50, 61), 70)
    assert shown(tiled(samples_of(*sampled("a", counts)), 0, 61_000)) == [(0, 15_000, 0), (15_000, 60_000, 60)]


def test_a_sample_on_a_line_belongs_before_it() -> None:
    counts: dict[int, float | None] = {-1000: 0, 15_000: 3, 15_001: 10, 30_000: 10}
    assert shown(tiled(samples_of(*sampled("a", counts)), 0, 30_000)) == [(0, 15_000, 3), (15_000, 30_000, 7)]


def test_a_counter_that_fell_began_anew() -> None:
    counts: dict[int, float | None] = {-1000: 100, 5000: 110, 10_000: 4, 20_000: 6}
    assert shown(tiled(samples_of(*sampled("a", counts)), 0, 30_000)) == [(0, 15_000, 14), (15_000, 30_000, 2)]


def test_a_second_router_counts_from_its_beginning_when_the_first_was_scraped_then() -> None:
    first = sampled("a", dict.fromkeys(every_second(-60, 20), 100))
    second = sampled("b", dict.fromkeys(every_second(12, 31), 7))
    assert shown(tiled(samples_of(*first, *second, began={"b": 8000}), 0, 30_000)) == [(0, 15_000, 7), (15_000, 30_000, 0)]


@pytest.mark.parametrize("began", [{}, {"b": -70_000}])
def test_what_a_router_counted_before_prometheus_knew_any_is_no_evidence(began: dict[str, int]) -> None:
    second = sampled("b", {second: 7 + second / 1000 for second in every_second(1, 31)})
    assert [count for _, _, count in shown(tiled(samples_of(*second, began=began), -15_000, 30_000))] == [14, 15]


def test_a_router_that_comes_back_after_more_than_the_usual_look_back_counts_on_from_where_it_was() -> None:
    away = sampled("a", {-3_600_000: 5000, 20_000: 5009})
    there = sampled("b", dict.fromkeys(every_second(-3, 31), 0))
    assert shown(tiled(samples_of(*away, *there), 0, 30_000)) == [(0, 15_000, 0), (15_000, 30_000, 9)]


def test_a_grid_that_begins_where_nothing_is_scraped_leaves_out_what_may_be_older() -> None:
    counts: dict[int, float | None] = {-100_000: 50, 20_000: 90, 22_000: 95, 40_000: 96}
    assert shown(tiled(samples_of(*sampled("a", counts)), 0, 45_000)) == [(0, 30_000, 5), (30_000, 45_000, 1)]


@pytest.mark.parametrize(
    ("newest", "until"),
    [
        ({"a": 99_500}, 98_000),  # the first scrape of a process nobody knows yet may be under way
        ({"a": 99_500, "b": 95_000}, 95_000),  # one process may be scraped later than the other
        ({"a": 99_500, "b": 80_000}, 98_000),  # gone
        ({"a": 90_000}, 90_000),
    ],
)
def test_intervals_end_where_no_sample_can_still_come(newest: dict[str, int], until: int) -> None:
    alive = [sampled(instance, {at - 30_000: 0, at: 0})[0] for instance, at in newest.items()]
    assert all_there_until(alive, now_ms=T0 + 100_000, stale_ms=15_000) == T0 + until


def test_hours_are_given_in_parts_that_fit_together() -> None:
    samples = samples_of(*sampled("a", {second * 5000: float(second) for second in range(-2, 5000)}))
    parts, since = [], 0
    while found := tiled(samples, since, 24_990_000):
        assert len(found) <= 260
        parts += shown(found)
        since = parts[-1][1]
    assert parts == [(at, at + EVERY, 3) for at in range(0, 24_990_000 - EVERY + 1, EVERY)]


@dataclass(frozen=True)
class History:
    """What a drawn Prometheus saw, and how many requests it saw for certain."""

    samples: Recording
    ends: int
    surely: int


@st.composite
def histories(draw: st.DrawFn) -> History:
    """One or two processes with irregular scrapes, gaps, restarts, and a beginning or an end on the way."""
    series: list[Series] = []
    began: dict[str, int] = {}
    ends = surely = 0
    for instance in ("a", "b")[: draw(st.integers(1, 2))]:
        at, count = (-1_000, 0) if instance == "a" else (draw(st.integers(-2_000, 90_000)), 0)
        steps = draw(st.lists(st.tuples(st.sampled_from([1000, 1000, 999, 5000, 21_000, 400_000]), st.integers(-1, 9)), max_size=60))
        seen: dict[int, float | None] = {at: 0}
        for wait, more in steps:
            at += wait
            count = count + more if more >= 0 else 0  # a restart
            surely += max(more, 0) if at > 0 else 0
            seen[at] = count
        began[instance] = min(seen) - 1500
        series += sampled(instance, seen)
        ends = max(ends, at)
    return History(samples_of(*series, began=began), ends, surely)


@given(histories(), st.lists(st.integers(1, 200_000), max_size=40), st.sampled_from([2_000, 15_000, 400_000]))
def test_intervals_are_the_same_list_however_often_one_asks(history: History, waits: list[int], every: int) -> None:
    ends = history.ends + every
    at_once = shown(tiled(history.samples, 0, ends, every))
    asked, since = [], 0
    for until in [*itertools.accumulate(waits), ends]:
        if until <= ends:
            found = shown(tiled(history.samples, since, until, every))
            assert found == shown(tiled(history.samples, since, until, every))
            asked += found
            since = found[-1][1] if found else since
    assert asked == at_once[: len(asked)]
    assert [start for start, _, _ in at_once[1:]] == [end for _, end, _ in at_once[:-1]]
    assert all((end - start) % every == 0 for start, end, _ in at_once)
    if since < (at_once[-1][1] if at_once else 0):  # more than one call's worth
        assert len(asked) >= 240
    else:
        assert asked == at_once
        assert sum(count for _, _, count in asked) == history.surely
