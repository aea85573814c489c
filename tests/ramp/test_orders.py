"""What a person may tell a ramp, against the real router and the real journal."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, ROUTE, Given, HandClock, Post, failing, good, rehearsed, start_envoy

from crossfade import processes
from crossfade.errors import UserError
from crossfade.home import Home
from crossfade.ports import Unwatched
from crossfade.ramp import orders
from crossfade.ramp.logbook import Desk
from crossfade.ramp.orders import Order
from crossfade.ramp.tick import tick
from crossfade.rollout.phases import Phase

Ready = tuple[Desk, Given, HandClock]
WHO = {"by": "ada", "why": "because"}


@pytest.fixture(scope="module")
def envoys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Envoy for all tests of this module; each begins with an empty journal and table."""
    folder = tmp_path_factory.mktemp("orders")
    home, envoy = start_envoy(folder)
    yield home.root
    processes.stop(envoy, deadline_s=5)


@pytest.fixture
def ready(envoys: Path) -> Iterator[Ready]:
    home = Home(envoys)
    for journal in envoys.glob("journal.sqlite*"):
        journal.unlink()
    desk, given, clock = rehearsed(home)
    given.each = good()
    yield desk, given, clock
    desk.router.remove(ROUTE, expect=desk.router.table().generation)
    desk.router.resume(ROUTE)


def in_force(desk: Desk) -> int:
    return desk.router.observed().route(ROUTE).share_bp


def given_orders(desk: Desk) -> list[tuple[str, str, str]]:
    found = ((entry.subject, Order.model_validate_json(entry.body)) for entry in desk.journal.entries(MIGRATION, kind="order"))
    return [(subject, order.by, order.why) for subject, order in found]


def first_step(ready: Ready) -> Ready:
    desk, _, clock = ready
    assert tick(desk, MIGRATION).did == "moved"
    clock.sleep(61)
    return ready


def test_a_paused_ramp_does_not_rise_and_goes_on_after_resume(ready: Ready) -> None:
    desk, _, clock = first_step(ready)
    orders.pause(desk, MIGRATION, **WHO)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 1000)
    assert "paused by ada" in ticked.reason
    orders.resume(desk, MIGRATION, **WHO)
    clock.sleep(20)
    assert tick(desk, MIGRATION).did == "moved"
    assert given_orders(desk) == [("pause", "ada", "because"), ("resume", "ada", "because")]


def test_a_paused_ramp_still_rolls_back(ready: Ready) -> None:
    desk, given, _ = first_step(ready)
    orders.pause(desk, MIGRATION, **WHO)
    given.each = failing()
    assert tick(desk, MIGRATION).did == "rolled_back"
    assert in_force(desk) == 0


def test_a_step_held_by_a_person_waits_that_long_and_goes_on_by_itself(ready: Ready) -> None:
    desk, _, clock = first_step(ready)
    orders.hold(desk, MIGRATION, **WHO, for_s=600)
    assert "another 10m" in tick(desk, MIGRATION).reason
    clock.sleep(601)
    assert tick(desk, MIGRATION).did == "moved"


def overdue(ready: Ready, at_deadline: str) -> Desk:
    """A ramp at its first step that nobody uses, some minutes before its deadline of an hour."""
    desk, given, clock = first_step(ready)
    given.each = good(requests=0)
    clock.sleep(3400)
    assert tick(desk, MIGRATION).did == "held"
    return dataclasses.replace(
        desk, plan=desk.plan.model_copy(update={"ramp": desk.plan.ramp.model_copy(update={"at_deadline": at_deadline})})
    )


def test_a_person_who_resumes_after_the_deadline_asked_has_another_deadline(ready: Ready) -> None:
    desk, clock = overdue(ready, "ask"), ready[2]
    clock.sleep(200)
    assert "resume, back or abort" in tick(desk, MIGRATION).tell
    clock.sleep(9000)
    orders.resume(desk, MIGRATION, **WHO)
    clock.sleep(3500)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, ticked.state.paused_by, ticked.tell) == ("held", "", "")
    clock.sleep(200)
    assert "longer than the plan's deadline" in tick(desk, MIGRATION).tell


@pytest.mark.parametrize("order", ["pause", "hold"])
def test_the_time_people_wanted_it_to_stay_is_not_held_against_a_ramp(ready: Ready, order: str) -> None:
    desk, clock = overdue(ready, "roll_back"), ready[2]
    if order == "hold":
        orders.hold(desk, MIGRATION, **WHO, for_s=172_800)
    else:
        orders.pause(desk, MIGRATION, **WHO)
    clock.sleep(172_700)
    assert (tick(desk, MIGRATION).did, in_force(desk)) == ("held", 1000)
    if order == "pause":
        orders.resume(desk, MIGRATION, **WHO)
    clock.sleep(3400)
    assert (tick(desk, MIGRATION).did, in_force(desk)) == ("held", 1000)
    clock.sleep(400)
    assert tick(desk, MIGRATION).did == "rolled_back"


def test_back_is_one_step_down_at_once_and_the_first_step_has_none(ready: Ready) -> None:
    desk, _, _ = first_step(ready)
    tick(desk, MIGRATION)
    assert in_force(desk) == 5000
    orders.back(desk, MIGRATION, **WHO)
    assert (in_force(desk), desk.journal.state(MIGRATION).step) == (1000, 0)
    with pytest.raises(UserError, match="crossfade ramp abort"):
        orders.back(desk, MIGRATION, **WHO)


def test_back_from_the_soak_is_a_ramp_again(ready: Ready) -> None:
    desk, _, clock = first_step(ready)
    while desk.journal.state(MIGRATION).phase is not Phase.SOAKING:
        tick(desk, MIGRATION)
        clock.sleep(40)
    orders.back(desk, MIGRATION, **WHO)
    state = desk.journal.state(MIGRATION)
    assert (state.phase, state.share_bp, state.soaked_s, in_force(desk)) == (Phase.RAMPING, 5000, 0.0, 5000)


def test_skip_goes_on_without_proof_but_not_past_a_condemned_target(ready: Ready) -> None:
    desk, given, clock = ready
    tick(desk, MIGRATION)
    orders.skip(desk, MIGRATION, **WHO)
    assert in_force(desk) == 5000
    given.each = failing()
    clock.sleep(61)
    assert "was rolled back" in orders.skip(desk, MIGRATION, **WHO)
    assert in_force(desk) == 0


def test_skip_after_a_restart_of_the_target_goes_back_to_the_first_step_instead(ready: Ready) -> None:
    desk, given, clock = first_step(ready)
    assert tick(desk, MIGRATION).state.share_bp == 5000
    given.readings["target_started"] = 2000.0
    clock.sleep(61)
    assert "not skipped: the target was started anew" in orders.skip(desk, MIGRATION, **WHO)
    assert (in_force(desk), desk.journal.state(MIGRATION).step) == (1000, 0)
    clock.sleep(20)
    assert tick(desk, MIGRATION).did == "held"


def test_skip_to_a_share_that_wants_approval_asks_for_it_so_that_it_can_be_given(ready: Ready) -> None:
    desk, given, _ = ready
    asking = dataclasses.replace(desk, plan=with_approval(desk, 5000))
    tick(asking, MIGRATION)
    with pytest.raises(UserError, match="crossfade ramp approve"):
        orders.skip(asking, MIGRATION, **WHO)
    orders.approve(asking, MIGRATION, **WHO)
    given.each = good(requests=0)
    orders.skip(asking, MIGRATION, **WHO)
    assert in_force(desk) == 5000


def test_those_who_may_approve_hear_of_it_also_when_a_skip_asked_first(ready: Ready) -> None:
    desk, _, clock = ready
    asking = dataclasses.replace(desk, plan=with_approval(desk, 5000))
    tick(asking, MIGRATION)
    with pytest.raises(UserError):
        orders.skip(asking, MIGRATION, **WHO)
    clock.sleep(61)
    assert "crossfade ramp approve" in tick(asking, MIGRATION).tell


def test_skip_does_not_leave_users_without_a_guard(ready: Ready) -> None:
    desk, _, _ = first_step(ready)
    unwatched = dataclasses.replace(desk, watchman=Post(Unwatched("the guard last looked 40 s ago")))
    with pytest.raises(UserError, match="40 s ago"):
        orders.skip(unwatched, MIGRATION, **WHO)
    assert in_force(desk) == 1000


def test_a_share_that_wants_approval_waits_and_no_answer_is_no(ready: Ready) -> None:
    desk, _, clock = ready
    asking = dataclasses.replace(desk, plan=with_approval(desk, 5000))
    assert tick(asking, MIGRATION).did == "moved"
    told = []
    for _ in range(5):
        clock.sleep(61)
        ticked = tick(asking, MIGRATION)
        told.append(ticked.tell)
        assert (ticked.did, in_force(desk)) == ("held", 1000)
    assert [bool(one) for one in told] == [True, False, False, False, False]
    assert "crossfade ramp approve" in ticked.reason
    assert len(desk.journal.entries(MIGRATION, kind="note", subject="approval")) == 1
    orders.approve(asking, MIGRATION, **WHO)
    clock.sleep(20)
    assert tick(asking, MIGRATION).did == "moved"
    assert in_force(desk) == 5000


@pytest.mark.parametrize("down", ["back", "restart"])
def test_an_approval_ends_with_a_step_down_and_is_asked_for_again(ready: Ready, down: str) -> None:
    desk, given, clock = ready
    asking = dataclasses.replace(desk, plan=with_approval(desk, 5000))
    for _ in range(2):
        tick(asking, MIGRATION)
        clock.sleep(61)
    orders.approve(asking, MIGRATION, **WHO)
    assert tick(asking, MIGRATION).state.share_bp == 5000
    clock.sleep(20)
    if down == "back":
        orders.back(asking, MIGRATION, **WHO)
    else:
        given.readings["target_started"] = 2000.0
        assert tick(asking, MIGRATION).did == "back"
    clock.sleep(61)
    ticked = tick(asking, MIGRATION)
    assert (ticked.did, in_force(desk)) == ("held", 1000)
    assert "crossfade ramp approve" in ticked.tell


def test_an_approval_is_no_promotion(ready: Ready) -> None:
    desk, given, clock = ready
    asking = dataclasses.replace(desk, plan=with_approval(desk, 5000))
    tick(asking, MIGRATION)
    clock.sleep(61)
    tick(asking, MIGRATION)
    orders.approve(asking, MIGRATION, **WHO)
    given.each = failing()
    clock.sleep(121)
    assert tick(asking, MIGRATION).did == "rolled_back"


def test_a_rejected_share_pauses(ready: Ready) -> None:
    desk, _, clock = ready
    asking = dataclasses.replace(desk, plan=with_approval(desk, 5000))
    tick(asking, MIGRATION)
    clock.sleep(61)
    tick(asking, MIGRATION)
    orders.reject(asking, MIGRATION, **WHO)
    clock.sleep(61)
    assert "paused by ada" in tick(asking, MIGRATION).reason
    assert in_force(desk) == 1000


def test_abort_ends_on_the_source_and_cannot_be_resumed(ready: Ready) -> None:
    desk, _, _ = first_step(ready)
    orders.abort(desk, MIGRATION, **WHO)
    assert (in_force(desk), desk.journal.state(MIGRATION).phase) == (0, Phase.ROLLED_BACK)
    assert tick(desk, MIGRATION).did == "rolled_back"


@pytest.mark.parametrize("order", ["resume", "approve", "reject", "back"])
def test_an_order_that_makes_no_sense_says_what_is_so_instead(ready: Ready, order: str) -> None:
    desk, _, _ = first_step(ready)
    with pytest.raises(UserError, match=MIGRATION):
        getattr(orders, order)(desk, MIGRATION, **WHO)
    assert given_orders(desk) == []


@pytest.mark.parametrize("order", ["pause", "resume", "skip", "back", "abort", "approve"])
def test_nothing_can_be_told_to_a_migration_that_has_ended(ready: Ready, order: str) -> None:
    desk, _, _ = ready
    orders.abort(desk, MIGRATION, **WHO)
    with pytest.raises(UserError, match="rolled_back"):
        getattr(orders, order)(desk, MIGRATION, **WHO)


def with_approval(desk: Desk, share_bp: int) -> object:
    return desk.plan.model_copy(update={"ramp": desk.plan.ramp.model_copy(update={"approve_before": (share_bp,)})})
