import dataclasses
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from ramp_desk import (
    MIGRATION,
    PLAN,
    ROUTE,
    Given,
    HandClock,
    Post,
    Source,
    at_half,
    failing,
    good,
    in_force,
    rehearsed,
    start_envoy,
)

from crossfade import processes
from crossfade.envoy import process as envoy_process
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import NotInForce, StaleWriter, Tripped
from crossfade.home import Home
from crossfade.judge.evidence import Blind
from crossfade.judge.state import JudgeState
from crossfade.judge.verdict import Decision
from crossfade.ports import NotReady, Unwatched
from crossfade.ramp.gatekeeper import rule
from crossfade.ramp.logbook import Because, Desk, ShareMove
from crossfade.ramp.reconcile import reconcile
from crossfade.ramp.rejudge import rejudge
from crossfade.ramp.rollback import roll_back
from crossfade.ramp.tick import tick
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState


def test_good_evidence_goes_over_step_by_step_and_finishes_after_the_soak(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    shares = []
    given.each = good()
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
    given.each = good()
    assert tick(desk, MIGRATION).did == "moved"
    clock.sleep(5)
    assert tick(desk, MIGRATION).did == "held"
    assert in_force(desk) == 1000


def test_too_few_requests_hold(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.each = good(requests=40)
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert ticked.did == "held"
    assert "not yet proven" in ticked.reason


def test_blindness_holds_and_says_why(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.each = Blind(gate="requests", why="Prometheus does not answer")
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 1000)
    assert "Prometheus does not answer" in ticked.reason


def test_no_share_rises_while_nobody_would_bring_users_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    given.each = good()
    ticked = tick(dataclasses.replace(desk, watchman=Post(Unwatched("the guard last looked 40 s ago"))), MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 0)
    assert "40 s ago" in ticked.reason


def test_errors_roll_back_latch_and_end_the_attempt(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.each = failing()
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("rolled_back", 0)
    assert "error_rate" in ticked.tell
    assert tick(desk, MIGRATION).tell == ""  # said once
    assert desk.journal.state(MIGRATION).phase is Phase.ROLLED_BACK
    with pytest.raises(Tripped):
        table = desk.router.table()
        desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 1000}), expect=table.generation)


@pytest.mark.parametrize("gate_value", [0.95, None])
def test_a_promql_gate_alone_stops_the_first_step(ready: tuple[Desk, Given, HandClock], gate_value: float | None) -> None:
    desk, given, _ = ready
    given.readings = {} if gate_value is None else {"kv_cache": gate_value}
    given.each = good()
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 0)
    assert "kv_cache" in ticked.reason


def test_a_tick_after_the_guard_tripped_follows_it_and_never_raises(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    desk.router.trip(ROUTE, why="guard saw errors", by="guard", at_s=clock.now_s())
    given.each = good()
    clock.sleep(60)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("rolled_back", 0)
    assert "guard saw errors" in ticked.tell
    assert tick(desk, MIGRATION).tell == ""  # said once


def test_a_raise_nobody_wrote_down_is_taken_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 5000}), expect=table.generation)  # a tick died after this
    given.each = good(requests=10)
    clock.sleep(60)
    assert tick(desk, MIGRATION).did == "held"
    assert in_force(desk) == 1000


def test_a_lowered_route_file_is_a_rollback_not_something_to_repair(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 0}), expect=table.generation)
    given.each = good()
    clock.sleep(60)
    assert tick(desk, MIGRATION).did == "rolled_back"
    assert in_force(desk) == 0


def test_a_hold_past_the_deadline_does_what_the_plan_says(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.each = good(requests=0)
    clock.sleep(3700)
    ticked = tick(desk, MIGRATION)
    assert ticked.did == "rolled_back"
    assert "deadline" in ticked.tell


@pytest.mark.parametrize(("at_deadline", "did", "paused"), [("hold", "held", ""), ("ask", "held", "the plan's deadline")])
def test_a_deadline_is_never_a_promotion(ready: tuple[Desk, Given, HandClock], at_deadline: str, did: str, paused: str) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.each = good(requests=0)
    clock.sleep(3700)
    plan = desk.plan.model_copy(update={"ramp": desk.plan.ramp.model_copy(update={"at_deadline": at_deadline})})
    ticked = tick(dataclasses.replace(desk, plan=plan), MIGRATION)
    assert (ticked.did, ticked.state.paused_by, in_force(desk)) == (did, paused, 1000)
    assert "longer than the plan's deadline" in ticked.tell
    clock.sleep(20)
    assert tick(dataclasses.replace(desk, plan=plan), MIGRATION).tell == ""  # said once


def test_a_breach_in_the_soak_still_rolls_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.each = good()
    while desk.journal.state(MIGRATION).phase is not Phase.SOAKING:
        tick(desk, MIGRATION)
        clock.sleep(40)
    given.each = failing()
    clock.sleep(40)
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


def test_a_tick_killed_between_ruling_and_acting_is_repeated_with_the_same_verdict(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    given.each = good()
    clock.sleep(61)
    state = reconcile(desk, MIGRATION)
    killed = rule(desk, state, "step")  # and nothing after it
    again = tick(desk, MIGRATION)
    assert killed.verdict.decision is Decision.PROMOTE
    assert (again.did, in_force(desk)) == ("moved", 5000)
    assert again.ruled is not None
    assert again.ruled.evidence.intervals == ()


def test_a_raise_the_router_shows_and_whose_author_died_stands(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, _, _ = ready
    state = desk.journal.state(MIGRATION)
    table = desk.router.table()
    raised = table.route(ROUTE).model_copy(update={"share_bp": 1000})
    desk.move(state, "intent", "share", ShareMove(route=raised, generation=table.generation, why="proven", step=0))
    desk.router.apply(raised, expect=table.generation)  # killed here
    settled = reconcile(desk, MIGRATION)
    assert (settled.phase, settled.step, settled.share_bp, in_force(desk)) == (Phase.RAMPING, 0, 1000, 1000)


def test_a_step_down_whose_author_died_is_finished_and_no_rollback(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    state, table = desk.journal.state(MIGRATION), desk.router.table()
    lowered = table.route(ROUTE).model_copy(update={"share_bp": 1000})
    desk.move(state, "intent", "share", ShareMove(route=lowered, generation=table.generation, why="person", step=0))
    desk.router.apply(lowered, expect=table.generation)  # killed here
    settled = reconcile(desk, MIGRATION)
    assert (settled.phase, settled.share_bp, in_force(desk)) == (Phase.RAMPING, 1000, 1000)


def test_no_share_rises_while_the_source_could_not_take_everything_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    given.each = good()
    ticked = tick(dataclasses.replace(desk, standby=Source(NotReady("it did not keep lab:latest in memory"))), MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 0)
    assert "did not keep" in ticked.reason


def test_the_first_share_does_not_rise_blind_even_when_no_gate_guards_the_ramp(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    unguarded = desk.plan.model_copy(update={"gates": {"error_rate": desk.plan.gates["error_rate"]}})
    given.each = Blind(gate="requests", why="Prometheus does not answer")
    assert tick(dataclasses.replace(desk, plan=unguarded), MIGRATION).did == "held"
    assert in_force(desk) == 0


def test_blind_ticks_do_not_count_as_soak(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.each = good()
    while desk.journal.state(MIGRATION).phase is not Phase.SOAKING:
        tick(desk, MIGRATION)
        clock.sleep(40)
    given.each = Blind(gate="requests", why="Prometheus does not answer")
    for _ in range(20):
        clock.sleep(60)
        assert tick(desk, MIGRATION).did == "held"
    given.each = good()
    clock.sleep(60)
    assert tick(desk, MIGRATION).state.phase is Phase.SOAKING


def test_a_soak_without_a_way_back_does_not_count_and_people_are_told_once(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.each = good()
    while desk.journal.state(MIGRATION).phase is not Phase.SOAKING:
        tick(desk, MIGRATION)
        clock.sleep(40)
    stranded = dataclasses.replace(desk, standby=Source(NotReady("it does not answer")))
    told = []
    for _ in range(20):
        clock.sleep(60)
        ticked = tick(stranded, MIGRATION)
        told.append(ticked.tell)
        assert (ticked.did, ticked.state.phase) == ("held", Phase.SOAKING)
    assert "the source could not take everything back at once: it does not answer" in ticked.reason
    assert [bool(one) for one in told] == [True] + [False] * 19
    clock.sleep(60)
    assert tick(desk, MIGRATION).tell == ""
    clock.sleep(60)
    assert "does not answer" in tick(stranded, MIGRATION).tell  # gone again
    while tick(desk, MIGRATION).state.phase is not Phase.FINISHED:
        clock.sleep(60)


def test_a_reconcile_between_a_raise_and_its_record_wins_and_nobody_rolls_back(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    state = desk.journal.state(MIGRATION)
    table = desk.router.table()
    desk.router.apply(table.route(ROUTE).model_copy(update={"share_bp": 5000}), expect=table.generation)  # the tick verified its raise
    assert reconcile(desk, MIGRATION).share_bp == 1000
    with pytest.raises(StaleWriter):
        desk.move(state.with_step(1, 5000, now_s=clock.now_s(), because="late"), "outcome", "share", Because(why="late"))
    given.each = good()
    clock.sleep(60)
    assert (tick(desk, MIGRATION).did, in_force(desk)) == ("moved", 5000)


def test_a_migration_found_at_everything_but_not_cut_over_is_cut_over(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, _ = ready
    given.each = good()
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


def test_a_rollback_is_not_written_down_while_the_router_shows_users_on_the_target(
    ready: tuple[Desk, Given, HandClock], tmp_path: Path
) -> None:
    """An Envoy that watches a folder which another one has taken the place of, and answers nobody for a moment."""
    desk, _, _ = ready
    tick(desk, MIGRATION)
    folder, envoy = Home(tmp_path).router, processes.recorded(envoy_process.NAME, Home(tmp_path).processes)
    assert envoy
    old = folder.rename(folder.with_name("before"))
    shutil.copytree(old, folder, symlinks=True, ignore=shutil.ignore_patterns("*-*.sock"))
    for socket in old.glob("admin-*.sock"):
        (folder / socket.name).hardlink_to(socket)
    os.kill(envoy.pid, signal.SIGSTOP)
    threading.Timer(1.5, os.kill, (envoy.pid, signal.SIGCONT)).start()
    with pytest.raises(NotInForce, match="the latch and the route file are in place"):
        roll_back(desk, MIGRATION, why="person", by="test")
    assert desk.journal.state(MIGRATION).phase is Phase.RAMPING
    assert (ROUTE in desk.router.latches(), desk.router.table().route(ROUTE).share_bp) == (True, 0)


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


def test_a_new_attempt_begins_from_no_evidence_and_with_half_the_error_budget_of_the_one_before(
    ready: tuple[Desk, Given, HandClock],
) -> None:
    desk, given, clock = ready
    for attempt, budget in ((1, 0.05), (2, 0.025), (3, 0.0125)):
        given.each = good()
        assert tick(desk, MIGRATION).did == "moved"
        memory = JudgeState.model_validate_json(desk.journal.recall(MIGRATION, "judge"))
        assert (memory.key, memory.budget, memory.requests, memory.rollback) == (f"{attempt}@500", budget, 0, {})
        given.each = failing()
        clock.sleep(60)
        assert tick(desk, MIGRATION).did == "rolled_back"
        begin_again(desk, clock)
    assert rejudge(desk.journal.entries(MIGRATION)) == []


def begin_again(desk: Desk, clock: HandClock) -> None:
    """A person begins the next attempt, which comes as far as its ramp."""
    desk.router.resume(ROUTE)
    first = MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=clock.now_s(), share_since_s=clock.now_s())
    state = desk.journal.begin(first, PLAN)
    for phase in ("assessed", "observing", "downloaded", "quantized", "serving", "proven", "rehearsed"):
        state = desk.enter(state, Phase(phase), "test")


def test_a_migration_whose_route_was_taken_away_is_rolled_back(ready: tuple[Desk, Given, HandClock], tmp_path: Path) -> None:
    desk, _, _ = ready
    tick(desk, MIGRATION)
    EnvoyRouter(Home(tmp_path).router).remove(ROUTE, expect=desk.router.table().generation)
    assert tick(desk, MIGRATION).did == "rolled_back"
