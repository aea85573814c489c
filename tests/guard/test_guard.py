"""The guard, driven poll by poll, on a real router and a real Prometheus."""

from __future__ import annotations

import json
import logging
import time

import pytest
from guard_stand import Stand, eventually, free_port

from crossfade.envoy.folder import RouteFolder
from crossfade.guard.events import events_of
from crossfade.guard.heartbeat import guard_alive
from crossfade.guard.outbox import Notice, Outbox
from crossfade.guard.watch import Guard
from crossfade.home import Home
from crossfade.judge.breach import Breach, hard_breach
from crossfade.rollout.routes import Latch, Upstream

pytestmark = pytest.mark.slow


def poll_until_tripped(stand: Stand, guard: Guard, route: str) -> None:
    def once() -> None:
        stand.ask(route, 3)
        guard.watch_once()

    eventually(lambda: stand.share(route) == 0, each=once)


def test_a_failing_target_is_tripped_and_journaled_and_no_user_saw_it(stand: Stand, home: Home) -> None:
    journal = stand.begin(home, "chat/failing")
    guard = stand.guard(home)
    stand.route("chat.failing", 5000)
    stand.break_it(error_share=1)
    answers = stand.ask("chat.failing", 40)
    eventually(lambda: stand.counted("chat.failing") >= 40)
    guard.watch_once()
    assert {answer.status_code for answer in answers} == {200}
    assert stand.share("chat.failing") == 0
    latch = stand.router.latches()["chat.failing"]
    assert latch.by == "guard"
    guard.clerk.work_once()
    [entry] = [entry for entry in journal.entries("chat/failing") if entry.kind == "breach"]
    notice = Notice.model_validate_json(entry.body)
    assert (entry.subject, entry.at_s, notice.reason) == ("chat.failing", latch.at_s, latch.why)
    assert notice.guard is not None
    judged_again = hard_breach(notice.guard, notice.intervals)
    assert isinstance(judged_again, Breach)
    assert judged_again.reason == latch.why
    assert [event.name for event in events_of(notice)] == ["crossfade.sla.breached", "crossfade.rolled-back"]


def test_a_slow_target_is_tripped(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/slow")
    guard = stand.guard(home)
    stand.route("chat.slow", 10_000)
    stand.break_it(delay_ms=600)
    poll_until_tripped(stand, guard, "chat.slow")
    assert "waited over 500ms for their first token" in stand.router.latches()["chat.slow"].why


def test_a_healthy_target_keeps_its_share(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/fine")
    guard = stand.guard(home)
    stand.route("chat.fine", 10_000)
    stand.ask("chat.fine", 50)
    eventually(lambda: stand.counted("chat.fine") == 50)
    guard.watch_once()
    assert stand.share("chat.fine") == 10_000
    status = guard_alive(home, time.time())
    assert (status.alive, status.routes, status.blind) == (True, ("chat.fine",), {})


def test_a_rehearsed_breach_is_tripped_but_announced_by_another_name(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/rehearsed")
    guard = stand.guard(home)
    route = "chat.rehearsed.rehearsal"
    stand.route(route, 10_000, upstream=Upstream.REHEARSAL_BREACH)
    poll_until_tripped(stand, guard, route)
    [notice] = guard.outbox.waiting()
    breached, rolled_back = events_of(notice)
    assert (breached.name, rolled_back.name) == ("crossfade.rehearsal.breached", "crossfade.rehearsal.rolled-back")
    assert breached.resource_id == f"crossfade.migration.{route}"
    payload = json.loads(breached.payload)
    assert (payload["migration"], payload["rehearsal"], payload["errors"] >= 5) == ("chat/rehearsed", True, True)


def test_a_journal_that_is_down_delays_nothing_and_gets_its_entry_once(stand: Stand, home: Home) -> None:
    journal = stand.begin(home, "chat/unwritten")
    guard = stand.guard(home)
    stand.route("chat.unwritten", 10_000)
    stand.break_it(error_share=1)
    before = home.journal.read_bytes()
    for file in home.root.glob("journal.sqlite*"):
        file.rename(file.with_name(f"away-{file.name}"))
    home.journal.mkdir()
    poll_until_tripped(stand, guard, "chat.unwritten")
    del guard.clerk
    after_a_restart = stand.guard(home)
    assert [notice.journaled for notice in after_a_restart.outbox.waiting()] == [False]
    home.journal.rmdir()
    for file in home.root.glob("away-*"):
        file.rename(file.with_name(file.name.removeprefix("away-")))
    assert home.journal.read_bytes()[:16] == before[:16]
    after_a_restart.clerk.work_once()
    after_a_restart.clerk.work_once()
    stand.guard(home)
    assert [entry.subject for entry in journal.entries("chat/unwritten") if entry.kind == "breach"] == ["chat.unwritten"]
    assert [notice.journaled for notice in Outbox(home.root / "guard-outbox").waiting()] == [True], "its events are still to be sent"


def test_without_prometheus_nothing_is_tripped_and_blindness_is_said_once(
    stand: Stand, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crossfade.guard")
    stand.begin(home, "chat/unseen", prometheus=f"http://127.0.0.1:{free_port()}")
    guard = stand.guard(home)
    stand.route("chat.unseen", 10_000)
    stand.break_it(error_share=1)
    for _ in range(3):
        stand.ask("chat.unseen", 10)
        guard.watch_once()
    assert stand.share("chat.unseen") == 10_000
    blind = guard_alive(home, time.time()).blind["chat.unseen"]
    assert "cannot be reached" in blind.why
    assert [record.message.split()[0] for record in caplog.records].count("blind") == 1


def test_a_route_without_a_plan_is_a_route_nobody_can_judge(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/known")
    guard = stand.guard(home)
    stand.route("chat.stranger", 100)
    guard.watch_once()
    assert "no plan of chat/stranger is known" in guard_alive(home, time.time()).blind["chat.stranger"].why


def test_a_trip_whose_author_died_half_way_is_finished(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/half")
    guard = stand.guard(home)
    stand.route("chat.half", 10_000)
    RouteFolder(stand.home.router).latch("chat.half", Latch(why="died here", at_s=1.0, by="judge"))
    guard.watch_once()
    assert stand.share("chat.half") == 0
    assert stand.router.latches()["chat.half"].why == "died here"


def test_a_guard_that_died_after_its_trip_leaves_an_entry_all_the_same(stand: Stand, home: Home) -> None:
    journal = stand.begin(home, "chat/orphan")
    stand.route("chat.orphan", 10_000)
    stand.router.trip("chat.orphan", why="7 of 9 requests failed", by="guard", at_s=1234.5)
    for _ in range(2):
        stand.guard(home).clerk.work_once()
    [entry] = [entry for entry in journal.entries("chat/orphan") if entry.kind == "breach"]
    assert (entry.at_s, json.loads(entry.body)["reason"]) == (1234.5, "7 of 9 requests failed")


def test_what_failed_before_a_resume_does_not_trip_the_next_attempt(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/again", window="60s")
    guard = stand.guard(home)
    stand.route("chat.again", 10_000)
    stand.break_it(error_share=1)
    poll_until_tripped(stand, guard, "chat.again")
    stand.break_it()
    guard.watch_once()
    stand.router.resume("chat.again")
    stand.route("chat.again", 10_000)
    resumed_s = time.time()

    def once() -> None:
        stand.ask("chat.again")
        guard.watch_once()

    eventually(lambda: time.time() > resumed_s + 6, each=once)
    assert stand.share("chat.again") == 10_000
