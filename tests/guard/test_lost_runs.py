"""Runs of the gpu pool that died together with their worker, on a real Prefect server; time is a clock of the test's own."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest
from guard_stand import eventually

from crossfade.prefect_api import FlowRun, PrefectApi
from tasks.await_run import HEARTBEAT, await_end

pytestmark = pytest.mark.slow

LOST_S = 120.0


@dataclass
class HandClock:
    """Goes on only when somebody waits; `then` is done when so many seconds have gone. Prefect shows no event of the future, so it begins
    an hour ago.
    """

    at_s: float = field(default_factory=lambda: time.time() - 3600)
    then: dict[int, object] = field(default_factory=dict)
    gone_s: int = 0

    def now_s(self) -> float:
        return self.at_s + self.gone_s

    def sleep(self, seconds: float) -> None:
        for due in range(self.gone_s + 1, self.gone_s + round(seconds) + 1):
            if due in self.then:
                self.then[due]()  # type: ignore[operator]
        self.gone_s += round(seconds)


class Worker:
    """What a worker and its run tell Prefect."""

    def __init__(self, api: str) -> None:
        self._client, self._prefect = httpx.Client(base_url=api, trust_env=False, timeout=30), PrefectApi(api)
        flow = self._post("/flows/", {"name": "quantize"}).json()["id"]
        self.run = str(self._post("/flow_runs/", {"flow_id": flow, "state": {"type": "SCHEDULED"}}).json()["id"])

    def put(self, state: str) -> None:
        self._post(f"/flow_runs/{self.run}/set_state", {"state": {"type": state, "name": state.title()}})

    def beat(self, at_s: float) -> None:
        """Emit a sign of life, and wait until the server's queue of events has come to it."""
        event = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.fromtimestamp(at_s, UTC).isoformat(),
            "event": HEARTBEAT,
            "resource": {"prefect.resource.id": f"prefect.flow-run.{self.run}"},
        }
        self._post("/events", [event])
        resource = event["resource"]["prefect.resource.id"]  # type: ignore[index]
        eventually(lambda: self._prefect.last_event_s(HEARTBEAT, resource) == pytest.approx(at_s, abs=0.01), within_s=60)

    def _post(self, path: str, body: object) -> httpx.Response:
        answers: list[httpx.Response] = []

        def posted() -> bool:  # SQLite under load answers 503 now and then
            answers.append(self._client.post(path, json=body))
            return answers[-1].is_success

        eventually(posted, within_s=30)
        return answers[-1]


@pytest.fixture
def worker(prefect: str) -> Worker:
    return Worker(prefect)


def waited(prefect: str, worker: Worker, clock: HandClock) -> FlowRun:
    return await_end(PrefectApi(prefect), worker.run, clock, lost_s=LOST_S)


def test_a_run_that_fell_silent_is_set_crashed_and_it_is_said(prefect: str, worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    worker.put("RUNNING")
    clock = HandClock()
    worker.beat(clock.now_s())
    with caplog.at_level(logging.WARNING):
        run = waited(prefect, worker, clock)
    assert run.state == "CRASHED"
    assert "no sign of life for" in run.message
    assert "its worker died with it" in caplog.text
    assert LOST_S < clock.gone_s <= LOST_S + 30 + 1


def test_silence_of_before_we_looked_is_not_held_against_a_run(prefect: str, worker: Worker) -> None:
    """As after an hour in which the server was away: the next heartbeat is still to come."""
    worker.put("RUNNING")
    worker.beat(time.time() - 7200)
    clock = HandClock(then={100: lambda: worker.beat(clock.now_s()), 150: lambda: worker.put("COMPLETED")})
    assert waited(prefect, worker, clock).state == "COMPLETED"
    assert clock.gone_s == 150


def test_a_run_whose_heartbeats_go_on_may_take_as_long_as_it_takes(prefect: str, worker: Worker) -> None:
    worker.put("RUNNING")
    beats = {at: lambda: worker.beat(clock.now_s()) for at in range(1, 300, 100)}
    clock = HandClock(then={**beats, 300: lambda: worker.put("COMPLETED")})
    assert (waited(prefect, worker, clock).state, clock.gone_s) == ("COMPLETED", 300)


def test_a_run_without_any_heartbeat_is_waited_for(prefect: str, worker: Worker) -> None:
    worker.put("RUNNING")
    clock = HandClock(then={400: lambda: worker.put("FAILED")})
    assert (waited(prefect, worker, clock).state, clock.gone_s) == ("FAILED", 400)


def test_a_run_that_never_began_is_set_crashed_and_one_that_nobody_took_is_not(prefect: str, worker: Worker) -> None:
    clock = HandClock(at_s=time.time(), then={300: lambda: worker.put("PENDING")})
    run = waited(prefect, worker, clock)
    assert (run.state, clock.gone_s > 300) == ("CRASHED", True)
