from __future__ import annotations

import math
import threading

import pytest

from crossfade.envoy.stack import Stack
from crossfade.errors import UserError
from crossfade.rollout.routes import ModelRoute


@pytest.mark.parametrize("share_bp", [500, 2500, 9000])
def test_the_share_seen_is_the_share_asked_within_its_binomial_interval(shared_rig, share_bp):
    shared_rig.route(share_bp, name="split")
    count, share = 500, share_bp / 10_000
    seen = shared_rig.engines(count, model="split")
    assert set(seen) <= {"source", "target"}
    assert abs(seen["target"] - count * share) <= 4 * math.sqrt(count * share * (1 - share))  # 4 sigma: 1 in 16,000 fails by chance


CASES = [
    ({"json": {"model": "llama3.1:8b"}}, "target"),
    ({"json": {"model": "LLaMA3.1:8B"}}, "target"),
    ({"json": {"model": "support-bot"}}, "target"),
    ({"json": {"model": "support-bot:latest"}}, "target"),
    ({"json": {"messages": [{"role": "user", "content": "x" * 300_000}], "model": "support-bot"}}, "target"),
    ({"content": b'{"mod\\u0065l": "support-bot"}'}, "target"),
    ({"content": b'{"model": "support-bot"}', "headers": {"content-type": "application/x-www-form-urlencoded"}}, "target"),
    ({"content": iter([b'{"mod', b'el": "support-bot"}'])}, "target"),
    ({"json": {"model": "llama3X1:8b"}}, "source"),
    ({"json": {"model": "llama3.1"}}, "source"),
    ({"json": {"model": "support-bot:7b"}}, "source"),
    ({"json": {"model": "unknown"}}, "source"),
    ({"json": {"model": 5}}, "source"),
    ({"json": {"messages": [{"model": "support-bot"}]}}, "source"),
    ({"content": b'{"model": "support-bot"'}, "source"),
    ({"content": b""}, "source"),
]


@pytest.mark.parametrize(("body", "engine"), CASES)
def test_a_request_goes_by_the_model_its_body_names(shared_rig, body, engine):
    _whole_model(shared_rig)
    answer = shared_rig.client.post("/v1/chat/completions", **body)
    assert (answer.status_code, answer.json()["engine"]) == (200, engine)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/delete", "/v2/chat", "/"])
def test_paths_outside_v1_stay_on_the_source_whatever_the_model(shared_rig, path):
    _whole_model(shared_rig)
    assert shared_rig.client.post(path, json={"model": "support-bot"}).json()["engine"] == "source"


def test_a_get_stays_on_the_source(shared_rig):
    _whole_model(shared_rig)
    assert shared_rig.client.get("/v1/models").json()["engine"] == "source"


def test_engines_see_their_own_address_as_host(shared_rig):
    _whole_model(shared_rig)
    shared_rig.ask("support-bot")
    shared_rig.ask("unknown")
    assert shared_rig.target.seen[-1][2] == shared_rig.stack.target
    assert shared_rig.source.seen[-1][2] == shared_rig.stack.source


def test_weights_larger_than_the_body_limit_can_be_uploaded_to_the_source(shared_rig):
    answer = shared_rig.client.post("/api/blobs/sha256:00", content=(b"x" * 2**20 for _ in range(40)))
    assert answer.json() == {"engine": "source", "bytes": 40 * 2**20}


def test_a_body_over_the_limit_is_answered_413(shared_rig):
    assert shared_rig.client.post("/v1/chat/completions", content=b" " * (33 * 2**20)).status_code == 413


def test_a_conversation_stays_on_the_target_while_the_share_grows(shared_rig):
    sessions = [f"user-{number}" for number in range(150)]
    on_target: set[str] = set()
    for share_bp in (1000, 4000, 10_000):
        shared_rig.route(share_bp, name="sticky")
        now = {session for session in sessions if shared_rig.ask("sticky", session).json()["engine"] == "target"}
        assert on_target <= now
        on_target = now
    assert on_target == set(sessions)


def test_a_stream_in_flight_is_not_cut_by_a_share_change_and_is_counted_active(rig):
    rig.route(10_000)
    received: list[str] = []
    begun = threading.Event()

    def read() -> None:
        with rig.client.stream("POST", "/v1/chat/completions", json={"model": "m", "stream": True}) as answer:
            for line in answer.iter_lines():
                received.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(10)
    assert (rig.router.active_requests("target"), rig.router.active_requests("source")) == (1, 0)
    for share_bp in (5000, 0):
        rig.route(share_bp)
    assert rig.engines(10) == {"source": 10}
    rig.target.open_gate()
    reader.join(10)
    data = [line for line in received if line]
    assert data == ["data: target first", *(f"data: target {number}" for number in range(20)), "data: [DONE]"]
    assert rig.router.active_requests("target") == 0


@pytest.mark.parametrize("address", ["localhost", "localhost:0", "localhost:99999", "a b:80", "https://x:443", "x:80/path", "::1:80:"])
def test_an_engine_address_that_does_not_parse_is_refused(tmp_path, address):
    with pytest.raises(UserError, match="is not host:port"):
        Stack("127.0.0.1:1000", "127.0.0.1:1001", address, "127.0.0.1:1002", tmp_path)


def _whole_model(rig) -> None:
    if "whole" not in {route.name for route in rig.router.table().routes}:
        change = ModelRoute(name="whole", models=("llama3.1:8b", "support-bot"), share_bp=10_000)
        rig.router.apply(change, expect=rig.router.table().generation)
