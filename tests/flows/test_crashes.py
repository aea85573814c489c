"""Ticks killed, stopped, late and doubled, as Prefect runs them: real server, worker, router, guard; SIGKILL, never an exception."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from flow_stand import Stand, until
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from crossfade import processes
from crossfade.guard.prefect_http import PrefectHttp
from crossfade.guard.reaper import Reaper
from crossfade.lab.prefect_server import start_workers
from crossfade.lab.stack import Lab
from crossfade.ports import Entry
from crossfade.rollout.names import ramp_deployment
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import Attempt, MigrationState
from tasks.schedule import schedule_ramp, stop_schedule

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_routes")]


@pytest.fixture
def stand(lab: Lab, plan_text: str) -> Iterator[Stand]:
    stand = Stand(lab, plan_text)
    yield stand
    stand.end_all()


@pytest.fixture
def told(lab: Lab) -> Iterator[Callable[[], list[str]]]:
    """A chat somebody has made a notification block for; the value is what was said there."""
    said = list[str]()

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        block = CustomWebhookNotificationBlock(
            name="crossfade-test",
            url=f"http://127.0.0.1:{server.server_port}/",
            json_data={"text": "{{subject}}: {{body}}"},
            allow_private_urls=True,
        )
        block.save("crossfade-test", overwrite=True)
        yield lambda: list(said)
        server.shutdown()


def killed_at(failpoint: str, *, stops: bool = False) -> dict[str, str]:
    """Environment of a run that is to end, or stand still, there."""
    return {"CROSSFADE_FAILPOINT": failpoint, "CROSSFADE_FAILPOINT_ALLOW": "1", "CROSSFADE_FAILPOINT_STOP": "1" if stops else "0"}


def test_killed_ticks_are_finished_by_the_next_one_and_a_late_one_does_nothing(stand: Stand) -> None:
    """Three ticks die between two writes, at once: before the route file changes, after it, and in the middle of a rollback."""
    before, after, ill, late = (stand.rehearsed(name) for name in ("before", "after", "ill", "late"))
    stand.router.trip("ill.lab-latest", why="a breach", by="guard", at_s=time.time())
    runs = {
        before: stand.tick(before, killed_at("after-intent")),
        after: stand.tick(after, killed_at("after-rename")),
        ill: stand.tick(ill, killed_at("after-rolling-back")),
    }
    due = datetime.now(UTC) - timedelta(minutes=10)
    too_late = stand.tick(late, due=due)
    for name, run in runs.items():
        assert stand.ended(run).state == "CRASHED", f"{name}: {stand.ended(run).message}"
    assert stand.ended(too_late).message.startswith("skipped: late by")
    assert stand.journal.entries(late, kind="decision") == []
    assert [stand.shares(name) for name in (before, after)] == [[], []]
    stand.retry(runs[after])  # the very same flow run, as the UI's button does; it has passed its failpoint
    again = [stand.tick(before), runs[after], stand.tick(ill)]
    assert [stand.ended(run).state for run in again] == ["COMPLETED"] * 3
    assert [stand.shares(name) for name in (before, after)] == [[1000], [1000]]
    assert [stand.in_force(name) for name in (before, after, ill, late)] == [1000, 1000, 0, 0]
    assert stand.journal.state(ill).phase is Phase.ROLLED_BACK
    assert stand.deployment(ill)["paused"]


def test_a_ramp_whose_tick_and_worker_were_both_killed_ticks_again_without_a_person(lab: Lab, stand: Stand) -> None:
    """Prefect takes the run for RUNNING for ever, and its limit of one keeps every later tick out until a guard has looked.

    A guard waits two intervals, a minute at least, looks every 10 s, and the next tick is one interval away: at the usual tick a minute
    that is over within 5 minutes. Here the interval is 5 s and the guard's reaper is told to be quicker.
    """
    name = stand.rehearsed("orphan")
    hung = stand.tick(name, killed_at("after-intent", stops=True))
    stand.standing(hung)
    stand.deploy(name, every_s=5, active=True)  # from here on the schedule ticks, and nobody else
    try:
        stand.kill_worker(hung)
        start_workers(lab, ["crossfade"])
        assert stand.prefect.flow_run(hung).state == "RUNNING"
        reaper = Reaper(PrefectHttp(), shortest_s=2)
        until("the guard to free the place", 60, lambda: reaper.reap(mine=name.__eq__, now_s=time.time()))
        assert (stand.prefect.flow_run(hung).state, stand.shares(name)) == ("CRASHED", [])
        until("a tick", 60, lambda: stand.completed(name))
    finally:
        stand.prefect.pause_deployment(ramp_deployment(name))
    assert (stand.shares(name), stand.in_force(name)) == ([1000], 1000)


def test_a_tick_overtaken_while_it_stood_still_decides_nothing(lab: Lab, stand: Stand) -> None:
    name = stand.rehearsed("both")
    slow = stand.tick(name, killed_at("before-decision", stops=True))
    engine = stand.standing(slow)
    assert stand.ended(stand.tick(name)).state == "CANCELLED"  # one at a time, as far as Prefect can tell
    code = f"from crossfade.tick_command import tick_once; print(tick_once({name!r}))"
    ticked = subprocess.run([sys.executable, "-c", code], env=lab.environment(), capture_output=True, text=True, check=False, timeout=60)
    assert "moved" in ticked.stdout, ticked.stderr
    engine.send_signal(signal.SIGCONT)
    assert "moved by somebody else" in stand.ended(slow).message
    assert stand.shares(name) == [1000]


def test_one_sweep_ticks_what_is_due_stops_what_has_ended_asks_a_person_and_tells_of_all(
    stand: Stand, artifacts: Callable[[str], str], told: Callable[[], list[str]]
) -> None:
    ready, ill = stand.rehearsed("ready"), stand.rehearsed("sick")
    asks = stand.rehearsed("asks", more="notify: [custom-webhook/crossfade-test]\n", ramp="approve_before: [10%], ")
    stand.router.trip("sick.lab-latest", why="a breach", by="guard", at_s=time.time())
    assert stand.ended(stand.prefect.start("sweep/sweep", {})).ended
    assert (stand.shares(ready), stand.in_force(ill)) == ([1000], 0)
    assert stand.journal.state(ill).phase is Phase.ROLLED_BACK
    assert stand.deployment(ill)["paused"]
    assert not stand.deployment(ready)["paused"]
    table = artifacts("sweep")
    assert "ready/lab-latest attempt 1 | moved | 10%" in table
    assert "sick/lab-latest attempt 1 | rolled back | 0%" in table
    assert stand.shares(asks) == []
    assert any("asks/lab-latest needs a person" in one and "approv" in one for one in told())
    assert "a breach" in artifacts("sick-lab-latest-report")


def test_one_migration_that_cannot_be_reconciled_is_told_of_after_all_others_were(stand: Stand, told: Callable[[], list[str]]) -> None:
    low, odd = stand.rehearsed("low"), "odd/model"
    stand.rehearsed("found", more="notify: [custom-webhook/crossfade-test]\n")
    stand.router.trip("found.lab-latest", why="a breach nobody heard of", by="guard", at_s=time.time())
    table = stand.router.table()
    stand.router.apply(table.route("low.lab-latest").model_copy(update={"share_bp": 1000}), expect=table.generation)
    now_s = time.time()
    begun = stand.journal.begin(MigrationState(name=odd, plan_digest="of odd", phase_since_s=now_s, share_since_s=now_s), "name: [")
    try:
        run = stand.ended(stand.prefect.start("reconcile/reconcile", {}))
        assert (run.state, "odd/model: plan of odd/model" in run.message) == ("FAILED", True), run.message
        assert any("found/lab-latest" in one and "a breach nobody heard of" in one for one in told())
        assert stand.in_force(low) == 0
    finally:
        gone = begun.model_copy(update={"phase": Phase.ROLLED_BACK})
        stand.journal.move(gone, Entry(odd, 1, now_s, "note", "set by a test", '{"why": "test"}'))


def test_a_ramp_that_begins_while_a_sweep_is_scheduled_gets_no_active_schedule_of_its_own(lab: Lab, stand: Stand) -> None:
    name = stand.rehearsed("swept")
    sweep = httpx.get(f"{lab.prefect_api}/deployments/name/sweep/sweep", timeout=20).raise_for_status().json()
    schedules = f"{lab.prefect_api}/deployments/{sweep['id']}/schedules"
    often = [{"schedule": {"interval": 60}, "active": True, "slug": "often"}]
    [made] = httpx.post(schedules, json=often, timeout=30).raise_for_status().json()
    try:
        assert "sweep/sweep goes on, every 1m" in schedule_ramp(Attempt(name, 1))
        assert [one["active"] for one in stand.deployment(name)["schedules"]] == [False]
    finally:
        httpx.delete(f"{schedules}/{made['id']}", timeout=30).raise_for_status()
    schedule_ramp(Attempt(name, 1))
    assert [one["active"] for one in stand.deployment(name)["schedules"]] == [True]
    stop_schedule(name)


def test_an_event_of_somebody_else_rolls_back_without_a_guard_and_a_failed_action_raises_the_alarm(
    lab: Lab, stand: Stand, told: Callable[[], list[str]], artifacts: Callable[[str], str]
) -> None:
    guard = processes.find("guard", lab.home.processes)
    assert guard
    processes.stop(guard, deadline_s=5)
    try:
        name = stand.rehearsed("alone", more="notify: [custom-webhook/crossfade-test]\n")
        stand.raise_share(name, 5000)
        stand.emit("alone.lab-latest", {"reason": "an event that does not say whose"})
        until("the alarm", 90, lambda: any(run.ended for run in stand.prefect.runs_of("alarm")))
        stand.emit("alone.lab-latest", {"migration": name, "reason": "p99 is 9 s"})
        until("the rollback", 90, lambda: stand.journal.state(name).phase is Phase.ROLLED_BACK)
    finally:
        lab.module("guard", "crossfade.guard")
    assert stand.in_force(name) == 0
    [alarm] = stand.prefect.runs_of("alarm")
    assert (alarm.state, "crossfade-sla-breach-rolls-back" in alarm.message) == ("FAILED", True)
    assert any("an automation failed" in one for one in told())
    until("the schedule to be paused", 60, lambda: stand.deployment(name)["paused"])
    until("the message", 60, lambda: any("rolled alone/lab-latest back" in one and "p99 is 9 s" in one for one in told()))
    assert "is back on the source" in artifacts("alone-lab-latest-rollback")


def test_prefect_has_no_run_left_that_waits_for_ever(lab: Lab) -> None:
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}},
        "flows": {"name": {"any_": ["ramp", "sweep", "rollback"]}},
    }
    until("all runs to end", 60, lambda: httpx.post(f"{lab.prefect_api}/flow_runs/filter", json=wanted, timeout=20).json() == [])
