"""Many requests at once against a server that can be told to fail and to stand still, which a healthy vLLM cannot."""

import http.server
import threading
import time
from contextlib import closing

import pytest

from crossfade.assess.load_step import longest_stall
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.load import ride

CHAT = b'{"choices": [{"message": {"content": "10"}, "finish_reason": "stop"}]}'


class Engine(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.under_way, self.most, self.steps, self.asked = threading.Lock(), 0, 0, 0, []
        self.status, self.frozen, self.takes_s = 200, False, 0.02


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        engine = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with engine.lock:
            engine.under_way += 1
            engine.most = max(engine.most, engine.under_way)
            engine.asked.append(body.decode())
        time.sleep(engine.takes_s)  # what an answer costs
        with engine.lock:
            engine.under_way -= 1
            engine.steps += 0 if engine.frozen else 1
        self.answer(engine.status, CHAT)

    def do_GET(self):
        engine = self.server
        page = f"vllm:num_requests_running {engine.under_way}\nvllm:iteration_tokens_total_count {engine.steps}\n"
        self.answer(200, page.encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def engine():
    server = Engine()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ridden(engine, at_once, hold_s):
    with closing(VllmTarget(f"http://127.0.0.1:{engine.server_port}", timeout_s=10)) as target:
        return ride(target, "m", ["first", "second"], at_once=at_once, hold_s=hold_s, max_tokens=8, on_progress=lambda _: None)


def test_as_many_requests_are_under_way_as_were_asked_for_and_all_prompts_are_used(engine):
    engine.takes_s = 0.3
    found = ridden(engine, 6, 1.0)
    assert engine.most == 6
    assert found.failed == 0
    assert len(found.answers_s) == len(engine.asked) >= 6
    assert {"first", "second"} == {word for word in ("first", "second") if any(word in body for body in engine.asked)}
    assert engine.under_way == 0


def test_failures_are_counted_and_the_first_are_kept_in_words(engine):
    engine.status = 500
    found = ridden(engine, 2, 0.5)
    assert found.answers_s == ()
    assert found.failed >= 2
    assert "500" in found.failures[0]


def test_an_engine_that_runs_requests_and_takes_no_step_is_seen_standing_still(engine):
    engine.frozen, engine.takes_s = True, 1.5
    found = ridden(engine, 2, 1.2)
    assert longest_stall([(look.at_s, look.readings.steps, look.readings.busy) for look in found.looks]) >= 0.5


def test_a_server_that_went_away_gives_failures_and_no_looks(engine):
    engine.shutdown()
    engine.server_close()
    found = ridden(engine, 2, 0.5)
    assert found.looks == ()
    assert found.failed >= 2
