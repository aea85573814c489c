"""Recorded intervals judged tick by tick; recordings are made here by the simulated router."""

import gzip
import json
from pathlib import Path

import pytest
from judge_bench.latency import BOUNDS_MS
from judge_bench.product import read_plan
from judge_bench.replay import judge_recording, replay, steps_of
from judge_bench.scenario import Scenario
from judge_bench.world import Setting, World

from crossfade.errors import UserError
from crossfade.judge.evidence import Counts, Interval
from crossfade.judge.verdict import Decision
from crossfade.prometheus.queries import REQUESTS, ROUTER_ALIVE

PLAN = read_plan()


def recorded(scenario: Scenario, shares: tuple[float, ...], intervals_each: int) -> list[Interval]:
    world = World(scenario, seed=3, replication=0, horizon_s=3600, slow_ms=500)
    bounds, found = (*BOUNDS_MS["router"], float("inf")), []
    for number, share in enumerate(shares):
        seen = world.passed(number * intervals_each, intervals_each, Setting(share, 0))
        for at in range(intervals_each):
            start_s = 1000.0 + 15 * (number * intervals_each + at)
            both = (
                Counts(
                    requests=int(arm.requests[at]),
                    errors=int(arm.errors[at]),
                    ttft=tuple(zip(bounds, arm.timed[at].cumsum().tolist(), strict=True)) if arm.timed[at].sum() else (),
                )
                for arm in (seen.source, seen.target)
            )
            found.append(Interval(start_s=start_s, end_s=start_s + 15, **dict(zip(("source", "target"), both, strict=True))))
    return found


def test_steps_are_read_off_the_traffic() -> None:
    intervals = recorded(Scenario(name="a", kind="good", rps=50), (0.01, 0.05, 0.25), 12)
    found = steps_of(PLAN.ramp.steps, intervals)
    assert found == sorted(found)
    assert (found[0], found[14], found[-1]) == (0, 1, 2)


def test_a_recorded_bad_ramp_ends_with_the_tick_that_rolls_back() -> None:
    intervals = recorded(Scenario(name="b", kind="bad", rps=50, errors_x=12), (0.0, 0.01, 0.05), 40)
    ticks = judge_recording(intervals, PLAN, baseline_s=None)
    assert ticks[-1].verdict.decision is Decision.ROLL_BACK
    assert all(tick.verdict.decision is not Decision.ROLL_BACK for tick in ticks[:-1])
    assert [tick.held_s for tick in ticks[:2]] == [60.0, 120.0]


def test_a_recording_without_a_request_on_the_target_is_refused() -> None:
    intervals = recorded(Scenario(name="c", kind="good", rps=5), (0.0,), 8)
    with pytest.raises(UserError, match="no request ever went to the target"):
        judge_recording(intervals, PLAN, baseline_s=None)


def recording_of_failing_target() -> str:
    """Ten minutes, a scrape every 5 s: 40 requests each to the source, and from the fifth minute on two to the target, which fails them."""
    samples, start_ms = 120, 1_764_000_000_000

    def series(name: str, changes: list[int], **labels: str) -> dict[str, object]:
        times = [start_ms, *[5_000] * samples]
        return {"name": name, "labels": {"job": "r", "instance": "a:1"} | labels, "times_ms": times, "values": {"inf": [0, *changes]}}

    def each(first: int, count: int) -> list[int]:
        return [number for at in range(first, samples + 1) for number in (at, count)]

    counted = [
        series(REQUESTS, each(1, 40), intended="source", engine="source", code="200", flags="-"),
        series(REQUESTS, each(60, 2), intended="target", engine="target", code="503", flags="-"),
        series(ROUTER_ALIVE, each(1, 1)),
    ]
    since_s = start_ms / 1000
    head = {"crossfade_recording": 1, "route": "r", "since_s": since_s, "until_s": since_s + 600, "handover_ms": 15_000}
    return json.dumps({**head, "began": [["r", "a:1", start_ms - 60_000]], "series": counted})


def test_recordings_are_shown_tick_by_tick_packed_or_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, packed = tmp_path / "ramp.json", tmp_path / "ramp.json.gz"
    plain.write_text(recording_of_failing_target())
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert replay([plain], plan_file=None, baseline_s=None) == 0
    shown = capsys.readouterr().out
    assert "roll_back" in shown
    assert replay([packed], plan_file=None, baseline_s=None) == 0
    assert capsys.readouterr().out.splitlines()[1:] == shown.splitlines()[1:]


def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ramp.toml"
    path.write_text("title = 'not this'")
    assert replay([path], plan_file=None, baseline_s=None) == 1
    assert f"{path}: not a recording" in capsys.readouterr().out
