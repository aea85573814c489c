"""Runs of the gpu pool that died together with their worker, on a real Prefect server; time is a clock of the test's own."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from guard_stand import eventually

from crossfade.errors import Unreachable
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
    then: Mapping[int, Callable[[], object]] = field(default_factory=dict)
    gone_s: int = 0

    def now_s(self) -> float:
        return self.at_s + self.gone_s

    def sleep(self, seconds: float) -> None:
        for due in range(self.gone_s + 1, self.gone_s + round(seconds) + 1):
            if due in self.then:
                self.then[due]()
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
        resource = f"prefect.flow-run.{self.run}"
        event = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.fromtimestamp(at_s, UTC).isoformat(),
            "event": HEARTBEAT,
            "resource": {"prefect.resource.id": resource},
        }
        self._post("/events", [event])
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


@pytest.fixture
def own(prefect: str) -> Worker:
    """The run that waits, whose heartbeats arrive."""
    run = Worker(prefect)
    run.beat(time.time() - 1)
    return run


def waited(prefect: str, worker: Worker, own: Worker, clock: HandClock) -> FlowRun:
    return await_end(PrefectApi(prefect), worker.run, clock, own_id=own.run, lost_s=LOST_S)


def test_a_run_that_fell_silent_is_set_crashed_and_it_is_said(
    prefect: str, worker: Worker, own: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.put("RUNNING")
    clock = HandClock()
    worker.beat(clock.now_s())
    with caplog.at_level(logging.WARNING):
        run = waited(prefect, worker, own, clock)
    assert run.state == "CRASHED"
    assert "no sign of life for" in run.message
    assert "its worker died with it" in caplog.text
    assert LOST_S < clock.gone_s <= LOST_S + 3 * 30


def test_silence_of_before_we_looked_is_not_held_against_a_run(prefect: str, worker: Worker, own: Worker) -> None:
    """As after an hour in which the server was away: the next heartbeat is still to come."""
    worker.put("RUNNING")
    worker.beat(time.time() - 7200)
    clock = HandClock(then={100: lambda: worker.beat(clock.now_s()), 200: lambda: worker.put("COMPLETED")})
    assert (waited(prefect, worker, own, clock).state, clock.gone_s) == ("COMPLETED", 200)


def test_a_run_whose_heartbeats_go_on_may_take_as_long_as_it_takes(prefect: str, worker: Worker, own: Worker) -> None:
    worker.put("RUNNING")
    beats = {at: lambda: worker.beat(clock.now_s()) for at in range(1, 250, 80)}
    clock = HandClock(then={**beats, 280: lambda: worker.put("COMPLETED")})
    assert (waited(prefect, worker, own, clock).state, clock.gone_s) == ("COMPLETED", 280)


def test_a_run_without_any_heartbeat_is_waited_for(prefect: str, worker: Worker, own: Worker) -> None:
    worker.put("RUNNING")
    clock = HandClock(then={400: lambda: worker.put("FAILED")})
    assert (waited(prefect, worker, own, clock).state, clock.gone_s) == ("FAILED", 400)


def test_nobody_is_blamed_where_no_heartbeats_arrive_at_all(prefect: str, worker: Worker) -> None:
    worker.put("RUNNING")
    clock = HandClock(then={400: lambda: worker.put("COMPLETED")})
    worker.beat(clock.now_s())
    assert (waited(prefect, worker, Worker(prefect), clock).state, clock.gone_s) == ("COMPLETED", 400)


def test_a_machine_that_was_suspended_blames_nobody(prefect: str, worker: Worker) -> None:
    """Our own heartbeat comes first after it."""
    worker.put("RUNNING")

    def sleep_an_hour() -> None:
        clock.at_s += 3600
        own.beat(clock.now_s())

    own = Worker(prefect)
    clock = HandClock(at_s=time.time() - 7200, then={50: sleep_an_hour, 150: lambda: worker.put("COMPLETED")})
    own.beat(clock.now_s())
    worker.beat(clock.now_s())
    assert (waited(prefect, worker, own, clock).state, clock.gone_s) == ("COMPLETED", 150)


def test_a_run_that_has_not_begun_is_waited_for(prefect: str, worker: Worker, own: Worker) -> None:
    """A container's image may take half an hour to come."""
    worker.put("PENDING")
    clock = HandClock(then={400: lambda: worker.put("RUNNING"), 420: lambda: worker.put("COMPLETED")})
    assert (waited(prefect, worker, own, clock).state, clock.gone_s) == ("COMPLETED", 420)


@pytest.fixture
def overloaded() -> Iterator[str]:
    """A Prefect that answers 503 to the first eight requests: longer than a call retries. The run ends meanwhile."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503 if len(asked) <= 8 else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"id": "1", "state": {"type": "COMPLETED", "name": "Completed"}}).encode())

        def log_message(self, *_: object) -> None:
            """Tests stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_away_is_waited_for(overloaded: str) -> None:
    assert await_end(PrefectApi(overloaded), "1", HandClock(), own_id="2").state == "COMPLETED"


def test_one_that_stays_away_is_named(overloaded: str) -> None:
    with pytest.raises(Unreachable, match="does not answer /flow_runs/1: 503"):
        await_end(PrefectApi(overloaded), "1", HandClock(), own_id="2", patience_s=-1)
