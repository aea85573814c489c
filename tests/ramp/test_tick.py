import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, ROUTE, Given, HandClock, Post, failing, good, rehearsed, start_envoy

from crossfade import processes
from crossfade.errors import StaleWriter, Tripped
from crossfade.judge.evidence import Blind
from crossfade.ports import Unwatched
from crossfade.ramp.logbook import Because, Desk, Ruling
from crossfade.ramp.rollback import roll_back
from crossfade.ramp.tick import reconcile, tick
from crossfade.rollout.phases import Phase


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[tuple[Desk, Given, HandClock]]:
    home, envoy = start_envoy(tmp_path)
    try:
        yield rehearsed(home)
    finally:
        processes.stop(envoy, deadline_s=5)


def in_force(desk: Desk) -> int:
    """The share in Envoy's own dump; it must agree with the route file."""
    share_bp = desk.router.observed().route(ROUTE).share_bp
    assert desk.router.table().route(ROUTE).share_bp == share_bp
    return share_bp


def test_good_evidence_goes_over_step_by_step_and_finishes_after_the_soak(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    shares = []
    given.found = good()
    for _ in range(40):
        ticked = tick(desk, MIGRATION)
        shares.append(in_force(desk))
        clock.sleep(20)
        if ticked.state.phase is Phase.FINISHED:
            break
    assert desk.journal.state(MIGRATION).phase is Phase.FINISHED
    assert sorted(set(shares)) == [1000, 5000, 10000]
    assert shares == sorted(shares)


def test_a_share_rises_by_one_step_at_most_and_not_before_its_hold_time(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.found = good()
    assert tick(desk, MIGRATION).did == "moved"
    clock.sleep(5)
    assert tick(desk, MIGRATION).did == "held"
    assert in_force(desk) == 1000


def test_too_few_requests_hold(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.found = good(requests=40)
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert ticked.did == "held"
    assert "40" in ticked.reason


def test_blindness_holds_and_says_why(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.found = Blind(gate="requests", why="Prometheus does not answer")
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 1000)
    assert "Prometheus does not answer" in ticked.reason


def test_no_share_rises_while_nobody_would_bring_users_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    given.found = good()
    ticked = tick(dataclasses.replace(desk, watchman=Post(Unwatched("the guard last looked 40 s ago"))), MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 0)
    assert "40 s ago" in ticked.reason


def test_errors_roll_back_latch_and_end_the_attempt(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.found = failing()
    clock.sleep(60)
    assert tick(desk, MIGRATION).did == "rolled_back"
    assert in_force(desk) == 0
    assert desk.journal.state(MIGRATION).phase is Phase.ROLLED_BACK
    with pytest.raises(Tripped):
        table = desk.router.table()
        desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 1000}), expect=table.generation)


@pytest.mark.parametrize("gate_value", [0.95, None])
def test_a_promql_gate_alone_stops_the_first_step(ready: tuple[Desk, Given, HandClock], gate_value: float | None) -> None:
    desk, given, _ = ready
    given.readings = {} if gate_value is None else {"kv_cache": gate_value}
    given.found = good()
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 0)
    assert "kv_cache" in ticked.reason


def test_a_tick_after_the_guard_tripped_follows_it_and_never_raises(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    desk.router.trip(ROUTE, why="guard saw errors", by="guard", at_s=clock.now_s())
    given.found = good()
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("rolled_back", 0)
    assert "guard saw errors" in ticked.reason


def test_a_raise_nobody_wrote_down_is_taken_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 5000}), expect=table.generation)  # a tick died after this
    given.found = good(requests=10)
    clock.sleep(60)
    assert tick(desk, MIGRATION).did == "held"
    assert in_force(desk) == 1000


def test_a_lowered_route_file_is_a_rollback_not_something_to_repair(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 0}), expect=table.generation)
    given.found = good()
    clock.sleep(60)
    assert tick(desk, MIGRATION).did == "rolled_back"
    assert in_force(desk) == 0


def test_a_hold_past_the_deadline_does_what_the_plan_says(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.found = good(requests=10)
    clock.sleep(3700)
    ticked = tick(desk, MIGRATION)
    assert ticked.did == "rolled_back"
    assert "deadline" in ticked.reason


def test_a_breach_in_the_soak_still_rolls_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.found = good()
    while desk.journal.state(MIGRATION).phase is not Phase.SOAKING:
        tick(desk, MIGRATION)
        clock.sleep(40)
    given.found = failing()
    assert tick(desk, MIGRATION).did == "rolled_back"
    assert in_force(desk) == 0


def test_rolling_back_twice_is_the_same_as_once(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, _, _ = ready
    tick(desk, MIGRATION)
    first = roll_back(desk, MIGRATION, why="person", by="test")
    second = roll_back(desk, MIGRATION, why="again", by="test")
    assert (first.tripped_here, second.tripped_here) == (True, False)
    assert second.state == first.state
    assert in_force(desk) == 0


def test_every_decision_in_the_journal_can_be_judged_again(ready: tuple[Desk, Given, HandClock]) -> None:
    from crossfade.judge.gate import judge

    desk, given, clock = ready
    given.found = good()
    for _ in range(3):
        tick(desk, MIGRATION)
        clock.sleep(40)
    rulings = [Ruling.model_validate_json(entry.body) for entry in desk.journal.entries(MIGRATION) if entry.kind == "decision"]
    assert len(rulings) == 3
    assert all(judge(ruling.gates, ruling.ramp, ruling.evidence) == ruling.verdict for ruling in rulings)


def test_the_first_share_does_not_rise_blind_even_when_no_gate_guards_the_ramp(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    unguarded = desk.plan.model_copy(update={"gates": {"error_rate": desk.plan.gates["error_rate"]}})
    given.found = Blind(gate="requests", why="Prometheus does not answer")
    assert tick(dataclasses.replace(desk, plan=unguarded), MIGRATION).did == "held"
    assert in_force(desk) == 0


def test_blind_ticks_do_not_count_as_soak(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.found = good()
    while desk.journal.state(MIGRATION).phase is not Phase.SOAKING:
        tick(desk, MIGRATION)
        clock.sleep(40)
    given.found = Blind(gate="requests", why="Prometheus does not answer")
    for _ in range(20):
        clock.sleep(60)
        assert tick(desk, MIGRATION).did == "held"
    given.found = good()
    clock.sleep(60)
    assert tick(desk, MIGRATION).state.phase is Phase.SOAKING


def test_a_reconcile_between_a_raise_and_its_record_wins_and_nobody_rolls_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    state = desk.journal.state(MIGRATION)
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 5000}), expect=table.generation)  # the tick verified its raise
    assert reconcile(desk, MIGRATION).share_bp == 1000
    with pytest.raises(StaleWriter):
        desk.move(state.with_step(1, 5000, now_s=clock.now_s(), because="late"), "outcome", "share", Because(why="late"))
    given.found = good()
    clock.sleep(60)
    assert (tick(desk, MIGRATION).did, in_force(desk)) == ("moved", 5000)


def test_a_migration_found_at_everything_but_not_cut_over_is_cut_over(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    given.found = good()
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 10_000}), expect=table.generation)
    state = desk.journal.state(MIGRATION).with_step(2, 10_000, now_s=1.0, because="an older version wrote two transactions")
    desk.move(state, "outcome", "share", Because(why="test"))
    assert tick(desk, MIGRATION).state.phase is Phase.SOAKING


def test_a_rollback_of_a_migration_without_a_route_ends_it(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, _, _ = ready
    desk.router.remove(ROUTE, expect=desk.router.table().generation)
    back = roll_back(desk, MIGRATION, why="person", by="test")
    assert (back.state.phase, back.tripped_here) == (Phase.ROLLED_BACK, False)


@pytest.mark.parametrize("phase", ["planned", "assessed", "observing", "downloaded", "quantized", "serving", "proven", "rehearsed"])
def test_a_rollback_before_any_traffic_ends_at_the_source(tmp_path: Path, phase: str) -> None:
    home, envoy = start_envoy(tmp_path)
    try:
        desk, _, _ = rehearsed(home)
        state = desk.journal.state(MIGRATION)
        desk.move(state.model_copy(update={"phase": Phase(phase)}), "note", "test sets the phase", Because(why="test"))
        back = roll_back(desk, MIGRATION, why="person", by="test")
        assert (back.state.phase, in_force(desk)) == (Phase.ROLLED_BACK, 0)
    finally:
        processes.stop(envoy, deadline_s=5)
