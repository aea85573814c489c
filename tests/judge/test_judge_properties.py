"""What must hold for any evidence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_stand import RAMP, evidence, new, rules

from crossfade.judge.evalues import one_sample
from crossfade.judge.evidence import Counts, Histogram, Interval, sum_of, thinned
from crossfade.judge.findings import log_against, log_for
from crossfade.judge.gate import Rules, judge
from crossfade.judge.histogram import quantile, slower_than
from crossfade.judge.latencies import decayed
from crossfade.judge.rules import Yardstick
from crossfade.judge.state import JudgeState
from crossfade.judge.verdict import Decision
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate

BOUNDS = (10.0, 50.0, 100.0, 500.0, 1000.0, math.inf)
BAD = {Decision.PROMOTE: 0, Decision.HOLD: 1, Decision.ROLL_BACK: 2}

times = st.lists(st.integers(0, 200), min_size=len(BOUNDS), max_size=len(BOUNDS))
boundaries = st.sampled_from(["step", "cutover", "soak"])


def histogram(per_bucket: list[int]) -> Histogram:
    return tuple((bound, sum(per_bucket[: index + 1])) for index, bound in enumerate(BOUNDS))


@st.composite
def gates(draw: st.DrawFn) -> dict[str, Gate]:
    factors = st.sampled_from([1.3, 2.0])
    every: dict[str, Gate] = {
        "error_rate": ErrorRateGate.model_construct(at_most=draw(st.sampled_from([0.01, 0.1])), no_worse_than_source=draw(factors)),
        "ttft_p95": LatencyGate.model_construct(at_most=draw(st.sampled_from([70.0, 500.0, 2000.0]))),
        "duration_p50": LatencyGate.model_construct(no_worse_than_source=draw(factors)),
    }
    return {name: every[name] for name in draw(st.permutations(sorted(every)))[: draw(st.integers(0, 3))]}


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    requests = draw(st.integers(0, 500))
    ttft, duration = (histogram(draw(times)) for _ in range(2))
    return Counts(requests=requests, errors=draw(st.integers(0, requests)), ttft=ttft, duration=duration)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[Interval, ...]:
    lengths = draw(st.lists(st.sampled_from([5.0, 15.0, 45.0]), min_size=1, max_size=6))
    starts = [sum(lengths[:at]) for at in range(len(lengths))]
    return tuple(
        Interval(start_s=start, end_s=start + length, source=draw(counts()), target=draw(counts()))
        for start, length in zip(starts, lengths, strict=True)
    )


def decided(given_gates: dict[str, Gate], given_: tuple[Interval, ...], boundary: str = "step") -> Decision:
    return judge(rules(given_gates), new(), evidence(given_, boundary=boundary)).verdict.decision


@given(gates(), stretches(), boundaries)
def test_nothing_is_promoted_without_a_request_on_the_target(chosen: dict[str, Gate], seen: tuple[Interval, ...], boundary: str) -> None:
    silent = tuple(interval.model_copy(update={"target": Counts()}) for interval in seen)
    assert decided(chosen, silent, boundary) is not Decision.PROMOTE


@given(gates(), stretches(), st.integers(0, 500), st.data())
def test_more_errors_are_never_better(chosen: dict[str, Gate], seen: tuple[Interval, ...], more: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(seen) - 1))
    target = seen[at].target
    worse = target.model_copy(update={"errors": min(target.errors + more, target.requests)})
    changed = (*seen[:at], seen[at].model_copy(update={"target": worse}), *seen[at + 1 :])
    assert BAD[decided(chosen, changed)] >= BAD[decided(chosen, seen)]


@given(stretches(), st.data())
def test_one_more_error_never_speaks_for_the_target_nor_less_against_it(seen: tuple[Interval, ...], data: st.DataObject) -> None:
    """Below the verdict, where its rounding to three words hides nothing."""
    both: dict[str, Gate] = {"error_rate": ErrorRateGate.model_construct(at_most=0.01, no_worse_than_source=2.0)}
    at = data.draw(st.integers(0, len(seen) - 1))
    target = seen[at].target
    worse = target.model_copy(update={"errors": min(target.errors + 1, target.requests)})
    changed = (*seen[:at], seen[at].model_copy(update={"target": worse}), *seen[at + 1 :])
    before, after = (judge(rules(both), new(), evidence(one)).state for one in (seen, changed))
    yardstick = Yardstick.of(rules(both))
    assert after.e_log >= before.e_log - 1e-9
    for test in yardstick.tests:
        assert log_against(test, after, compares=True) >= log_against(test, before, compares=True) - 1e-9
        assert log_for(test, after) <= log_for(test, before) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 500)), min_size=1, max_size=8))
def test_evidence_for_the_target_is_a_sum_that_no_split_into_intervals_changes(parts: list[tuple[int, int]]) -> None:
    bad, well = (sum(part) for part in zip(*parts, strict=True))
    split = sum(one_sample(bad, bad + well, 0.01, 0.002) for bad, well in parts)
    assert split == pytest.approx(one_sample(bad, bad + well, 0.01, 0.002), abs=1e-9)


@given(gates(), counts(), times, st.integers(0, len(BOUNDS) - 2), st.integers(0, 200))
def test_slower_answers_are_never_better(chosen: dict[str, Gate], source: Counts, spread: list[int], bucket: int, moved: int) -> None:
    slower = list(spread)
    moved = min(moved, slower[bucket])
    slower[bucket], slower[bucket + 1] = slower[bucket] - moved, slower[bucket + 1] + moved
    before, after = (
        tuple(
            Interval(
                start_s=15.0 * at,
                end_s=15.0 * at + 15,
                source=source,
                target=Counts(requests=500, ttft=histogram(one), duration=histogram(one)),
            )
            for at in range(4)
        )
        for one in (spread, slower)
    )
    assert BAD[decided(chosen, after)] >= BAD[decided(chosen, before)]


@given(gates(), stretches(), boundaries)
def test_the_order_of_gates_does_not_matter(chosen: dict[str, Gate], seen: tuple[Interval, ...], boundary: str) -> None:
    assert decided(chosen, seen, boundary) is decided(dict(reversed(chosen.items())), seen, boundary)


@settings(deadline=None)
@given(gates(), stretches(), boundaries, st.data())
def test_grouping_into_ticks_killing_and_repeating_change_nothing(
    chosen: dict[str, Gate], seen: tuple[Interval, ...], boundary: str, data: st.DataObject
) -> None:
    """Each tick stores its memory as JSON; one may be killed before that, and another after it and then be repeated."""
    by: Rules = rules(chosen)
    whole = judge(by, new(), evidence(seen, boundary=boundary))
    state, at = new(), 0
    while at < len(seen):
        count = data.draw(st.integers(1, len(seen) - at))
        tick = evidence(seen[at : at + count], boundary=boundary)
        if data.draw(st.booleans()):
            judge(by, state, tick)  # killed before it wrote anything
        last = judge(by, state, tick)
        state = JudgeState.model_validate_json(last.state.model_dump_json())
        assert state == last.state
        if data.draw(st.booleans()):  # killed between writing and acting
            assert judge(by, state, evidence((), boundary=boundary)) == last
        at += count
    assert state == whole.state
    assert judge(by, state, evidence((), boundary=boundary)).verdict == whole.verdict


@given(times, st.sampled_from([10.0, 70.0, 500.0, 2000.0]))
def test_what_is_surely_slower_may_be_slower(spread: list[int], limit_ms: float) -> None:
    slower = slower_than(histogram(spread), limit_ms)
    assert 0 <= slower.at_least <= slower.at_most <= slower.total == sum(spread)


@given(times, times, st.sampled_from([5.0, 10.0, 70.0, 100.0, 500.0, 700.0, 2000.0]), st.floats(0.01, 0.999))
def test_leaving_out_bounds_loses_nothing(spread: list[int], more: list[int], limit_ms: float, q: float) -> None:
    full, other = histogram(spread), histogram(more)
    assert slower_than(thinned(full), limit_ms) == slower_than(full, limit_ms)
    assert repr(quantile(thinned(full), q)) == repr(quantile(full, q))
    assert thinned(sum_of(thinned(full), thinned(other))) == thinned(sum_of(full, other))


@given(times.filter(any), st.floats(0.01, 0.999))
def test_a_quantile_lies_in_its_bucket(spread: list[int], q: float) -> None:
    found = quantile(histogram(spread), q)
    assert found.low_ms <= found.estimate_ms <= found.high_ms


def test_the_memory_stays_small_whatever_the_history() -> None:
    bounds = [*(1.06**at for at in range(200)), math.inf]
    spread: Histogram = tuple((bound, at + 1) for at, bound in enumerate(bounds))
    chosen: dict[str, Gate] = {"error_rate": ErrorRateGate.model_construct(at_most=0.01, no_worse_than_source=2.0)}
    for q in (50, 75, 90, 95, 99):
        for measure in ("ttft", "duration"):
            chosen[f"{measure}_p{q}"] = LatencyGate.model_construct(at_most=500.0, no_worse_than_source=1.3)
    same = Counts(requests=201, errors=1, ttft=spread, duration=spread)
    seen = tuple(Interval(start_s=15.0 * at, end_s=15.0 * at + 15, source=same, target=same) for at in range(400))
    state = judge(rules(chosen, RAMP), new(), evidence(seen)).state
    assert len(state.model_dump_json()) < 65_536


@given(times, times, st.sampled_from([0.0, 0.05, 1.0]))
def test_the_memory_is_the_same_whichever_bounds_were_left_out(before: list[int], after: list[int], lifetimes: float) -> None:
    """Every bound of the new ones known already, some of them, and none."""
    old, new = histogram(before), histogram(after)
    for known, left in ((old, 1.0), (thinned(old), 1.0), ((), 0.0)):
        for entered in (new, thinned(new)):
            found = decayed(known, entered, lifetimes)
            for bound_ms, count in old:
                expected = left * math.exp(-lifetimes) * count + within(new, bound_ms)
                assert within(found, bound_ms) == pytest.approx(expected)


def within(cumulative: tuple[tuple[float, float], ...], bound_ms: float) -> float:
    """Its count at a bound that may have been left out."""
    return max((count for bound, count in cumulative if bound <= bound_ms), default=0.0)
