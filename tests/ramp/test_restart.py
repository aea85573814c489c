"""A target that was started anew: back to the first step, from no evidence, whoever is killed or overtaken meanwhile."""

import dataclasses
from pathlib import Path

import pytest
from ramp_desk import (
    MIGRATION,
    Given,
    HandClock,
    Overtaken,
    at_half,
    failing,
    good,
    in_force,
)

from crossfade.errors import StaleWriter
from crossfade.home import Home
from crossfade.judge.state import JudgeState
from crossfade.ports import Entry
from crossfade.ramp.gatekeeper import rule_from
from crossfade.ramp.logbook import Desk
from crossfade.ramp.reconcile import reconcile
from crossfade.ramp.rejudge import rejudge
from crossfade.ramp.rulebook import OPENING, Opening, opened, reopened
from crossfade.ramp.tick import tick


def test_a_target_that_was_started_anew_begins_again_at_the_first_step_with_half_the_budget(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    given.readings["target_started"] = 2000.0
    clock.sleep(20)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, ticked.state.step, in_force(desk)) == ("back", 0, 1000)
    memory = JudgeState.model_validate_json(desk.journal.recall(MIGRATION, "judge"))
    assert (memory.key, memory.budget) == ("1@2000", 0.025)
    clock.sleep(61)
    assert tick(desk, MIGRATION).did == "moved"
    assert rejudge(desk.journal.entries(MIGRATION)) == []


def started_anew(desk: Desk, given: Given, clock: HandClock) -> None:
    """A restart at 50 % whose tick was killed before it moved anybody."""
    at_half(desk, given, clock)
    given.readings["target_started"] = 2000.0
    clock.sleep(61)
    before = opened(desk, reconcile(desk, MIGRATION), counts=True)
    reopened(desk, before, rule_from(before, desk, "cutover").state)  # and nothing after it
    assert in_force(desk) == 5000


def test_a_tick_killed_between_seeing_a_restart_and_stepping_down_leaves_that_to_the_next_one(
    ready: tuple[Desk, Given, HandClock],
) -> None:
    desk, given, clock = ready
    started_anew(desk, given, clock)
    clock.sleep(61)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, ticked.state.step, in_force(desk)) == ("back", 0, 1000)
    clock.sleep(20)
    assert tick(desk, MIGRATION).did == "held"  # it went back once
    assert rejudge(desk.journal.entries(MIGRATION)) == []


def test_a_restart_is_not_forgotten_when_another_migration_moves_the_table_first(
    ready: tuple[Desk, Given, HandClock], tmp_path: Path
) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    given.readings["target_started"] = 2000.0
    clock.sleep(61)
    with pytest.raises(StaleWriter):
        tick(dataclasses.replace(desk, router=Overtaken(Home(tmp_path).router, times=1)), MIGRATION)
    clock.sleep(61)
    assert (tick(desk, MIGRATION).did, in_force(desk)) == ("back", 1000)


def test_of_two_that_see_a_restart_only_one_begins_the_memory_anew(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    given.readings["target_started"] = 2000.0
    clock.sleep(20)
    before = opened(desk, reconcile(desk, MIGRATION), counts=True)
    reopened(desk, before, before.state)
    with pytest.raises(StaleWriter):
        reopened(desk, before, before.state)


def test_the_errors_of_the_process_that_died_count_before_the_ramp_begins_anew(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    given.readings["target_started"] = 2000.0
    given.each = failing()
    clock.sleep(60)
    assert (tick(desk, MIGRATION).did, in_force(desk)) == ("rolled_back", 0)
    assert rejudge(desk.journal.entries(MIGRATION)) == []


def test_a_target_that_does_not_stay_up_is_told_of_and_paused_at_its_third_restart(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.each = good()
    tick(desk, MIGRATION)
    told = []
    for restart in range(1, 5):
        clock.sleep(61)
        given.readings["target_started"] = 1000.0 * restart
        ticked = tick(desk, MIGRATION)
        told.append(ticked.tell)
        assert (ticked.did, in_force(desk)) == ("back", 1000)
    assert ["restart 1" in told[0], "restart 2" in told[1], "restart 3" in told[2], told[3]] == [True, True, True, ""]
    assert f"paused: see the target's log, then crossfade ramp resume {MIGRATION}" in told[2]
    assert "paused" not in told[1]
    clock.sleep(61)
    ticked = tick(desk, MIGRATION)  # it stayed up meanwhile, but that is for a person to say
    assert ("paused by the target's restarts" in ticked.reason, ticked.tell, in_force(desk)) == (True, "", 1000)
    assert rejudge(desk.journal.entries(MIGRATION)) == []


def test_a_target_started_a_thousand_times_can_still_be_judged(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    often = Opening.model_validate_json(desk.journal.recall(MIGRATION, OPENING)).model_copy(update={"halvings": 1100})
    kept = {OPENING: often.model_dump_json()}
    desk.journal.record(Entry(MIGRATION, 1, clock.now_s(), "note", "an older version counted on", "{}"), kept)
    given.readings["target_started"] = 2000.0
    clock.sleep(61)
    assert tick(desk, MIGRATION).did == "back"
    assert JudgeState.model_validate_json(desk.journal.recall(MIGRATION, "judge")).budget == 0.05 / 2**20


def test_not_knowing_when_the_target_started_is_no_restart(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    at_half(desk, given, clock)
    del given.readings["target_started"]
    clock.sleep(20)
    assert tick(desk, MIGRATION).did == "held"
    assert in_force(desk) == 5000
