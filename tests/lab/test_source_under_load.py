"""Many clients of the stand-in at once, clients that go away, and a stop signal under load."""

import http.client
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest
from stand_in import ANSWER, ENDLESS, GREEDY, MODEL_FOLDER, ask, lab_gguf, poll_until, stand_in


def test_all_evaluation_prompts_are_answered_as_the_model_was_taught(source):
    cases = [json.loads(line) for line in (MODEL_FOLDER / "eval.jsonl").read_text().splitlines()]

    client = ollama.Client(source.url)

    def right(case):
        reply = client.chat("tiny", ask(case["prompt"]), options=GREEDY)
        return reply.message.content == case["answer"]

    with ThreadPoolExecutor(8) as pool:
        correct = sum(pool.map(right, cases))
    assert len(cases) == 180
    assert correct >= 170


@pytest.mark.slow
def test_connections_stay_open_and_no_request_fails_under_sixteen_clients(source):
    failures: list[str] = []
    stop_s = time.monotonic() + 4

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", source.port, timeout=20)
        connection.connect()
        first = connection.sock
        body = json.dumps({"model": "tiny", "messages": ask(), "stream": bool(number % 2), "options": GREEDY})
        count = 0
        while time.monotonic() < stop_s:
            connection.request("POST", "/api/chat", body)
            reply = connection.getresponse()
            if ANSWER.encode() not in reply.read() or connection.sock is not first:
                failures.append(f"client {number}, request {count}: status {reply.status}")
            count += 1
        connection.close()
        return count

    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(client, range(16)))
    assert failures == []
    assert min(counts) > 0


def endless(source, *, stream):
    """A connection whose request would keep a slot for many seconds."""
    body = json.dumps({"model": "tiny", "prompt": "hi", "format": ENDLESS, "stream": stream}).encode()
    connection = socket.create_connection(("127.0.0.1", source.port), timeout=20)
    connection.sendall(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_go_away_free_their_slots_at_once_also_those_that_still_waited(source, native, stream):
    native.generate("tiny", keep_alive=0)
    leaving = [endless(source, stream=stream) for _ in range(8)]  # twice as many as there are slots
    assert poll_until(lambda: bool(native.ps().models))
    for connection in leaving:
        connection.close()
    native.chat("tiny", ask(), options=GREEDY, keep_alive=0)
    # a model with a request under way stays loaded, so an empty list proves that none is left
    assert poll_until(lambda: native.ps().models == [], deadline_s=2)


def test_a_stop_signal_ends_it_at_once_with_a_stream_under_way(tmp_path):
    with stand_in(tmp_path, f"tiny={lab_gguf(tmp_path)}") as running:
        connection = endless(running, stream=True)
        assert connection.recv(100)
        began_s = time.monotonic()
        assert running.program.alive()
        os.kill(running.program.pid, signal.SIGTERM)
        assert poll_until(lambda: not running.program.alive(), deadline_s=2)
        assert time.monotonic() - began_s < 1
        connection.close()
