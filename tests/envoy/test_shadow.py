"""Copies of requests for the target, further targets, and waiting until an engine is idle."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from envoy_doubles import EngineDouble
from envoy_rig import Rig, eventually

from crossfade.envoy.drain import Drained
from crossfade.envoy.stack import Stack
from crossfade.errors import Tripped, UserError
from crossfade.ports import SystemClock
from crossfade.rollout.routes import ModelRoute


def shadow(rig: Rig, shadow_bp: int, share_bp: int = 0) -> None:
    change = ModelRoute(name="m", models=("m",), share_bp=share_bp, shadow_bp=shadow_bp)
    rig.router.apply(change, expect=rig.router.table().generation)


def mirrored(rig: Rig, code: str) -> int:
    """Mirrored requests by the first digit of their status, as the router counts them."""
    text = httpx.get(f"http://{rig.stack.metrics_listen}/stats/prometheus", trust_env=False).text
    pattern = r"^envoy_cluster_upstream_rq_xx\{(?=.*target_shadow)(?=.*class=\"" + code + r"\").*\} (\d+)$"
    return sum(int(found) for found in re.findall(pattern, text, re.MULTILINE))


def test_a_fraction_of_requests_is_also_sent_to_the_target_and_its_answers_are_seen_by_nobody(rig):
    shadow(rig, 2500)
    count = 400
    assert rig.engines(count) == {"source": count}
    sigma = math.sqrt(count * 0.25 * 0.75)
    eventually(lambda: mirrored(rig, "2") > 0)
    assert abs(len(rig.target.seen) - count * 0.25) <= 4 * sigma
    eventually(lambda: mirrored(rig, "2") == len(rig.target.seen))
    assert rig.router.observed().route("m").shadow_bp == 2500
    assert rig.requests(route="m", intended="target") == 0
    assert {host for _, _, host in rig.target.seen} <= {rig.stack.target, rig.stack.listen}


def test_mirrored_failures_are_counted_apart_and_never_reach_a_client(rig):
    shadow(rig, 10_000)
    rig.target.status = 503
    assert rig.engines(20) == {"source": 20}
    eventually(lambda: mirrored(rig, "5") == 20)
    rig.target.stop()
    assert rig.engines(20) == {"source": 20}
    eventually(lambda: mirrored(rig, "5") == 40)
    assert rig.requests(route="m", code="503") == 0


def test_a_trip_ends_the_mirroring_too(rig):
    shadow(rig, 10_000, share_bp=5000)
    tripped = rig.router.trip("m", why="w", by="guard", at_s=0).table.route("m")
    assert (tripped.share_bp, tripped.shadow_bp) == (0, 0)
    assert rig.router.observed().route("m") == tripped
    heard = len(rig.target.seen)
    assert rig.engines(20) == {"source": 20}
    assert len(rig.target.seen) == heard
    with pytest.raises(Tripped):
        shadow(rig, 1)


@pytest.fixture
def three_targets(cold_rig: Rig) -> Iterator[tuple[Rig, dict[str, EngineDouble]]]:
    more = {name: EngineDouble(name).start() for name in ("vision", "coder-7b")}
    cold_rig.stack = replace(cold_rig.stack, more_targets={name: engine.address for name, engine in more.items()})
    cold_rig.start()
    yield cold_rig, more
    for engine in more.values():
        engine.stop()


def test_each_model_has_a_target_share_shadow_and_failover_of_its_own(three_targets):
    rig, more = three_targets
    for generation, (name, target, share_bp, shadow_bp) in enumerate(
        [("a", "", 10_000, 0), ("b", "vision", 10_000, 0), ("c", "coder-7b", 0, 10_000)]
    ):
        route = ModelRoute(name=name, models=(name,), share_bp=share_bp, shadow_bp=shadow_bp, target=target)
        rig.router.apply(route, expect=generation)
    assert rig.router.observed() == rig.router.table()
    assert [rig.engines(10, model=name) for name in "abc"] == [{"target": 10}, {"vision": 10}, {"source": 10}]
    eventually(lambda: len(more["coder-7b"].seen) == 10)
    more["vision"].stop()
    assert [rig.engines(10, model=name) for name in "ab"] == [{"target": 10}, {"source": 10}]
    eventually(lambda: rig.requests(route="b", intended="target", engine="source") == 10)
    assert rig.router.active_requests("target-vision") == 0


@pytest.mark.parametrize("name", ["", "Vision", "a_b", "a.b", "-a", "x" * 41])
def test_a_target_whose_name_would_not_fit_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="a target cannot be called"):
        Stack("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", tmp_path, more_targets={name: "127.0.0.1:5"})


def test_a_drain_waits_for_streams_and_says_what_ran_on_at_its_deadline(rig):
    rig.route(10_000)
    reader = threading.Thread(target=_read_whole, args=(rig,))
    reader.start()
    eventually(lambda: rig.router.active_requests("target") == 1)
    rig.route(0)
    clock = SystemClock()
    late = rig.router.drain("target", 0.3, clock)
    assert late.still_active == 1
    assert 0.3 <= late.seconds < 2
    threading.Timer(0.5, rig.target.open_gate).start()
    done = rig.router.drain("target", 10, clock)
    assert done.still_active == 0
    assert done.seconds < 5
    reader.join(10)
    assert rig.router.drain("source", 0, clock) == Drained(0, pytest.approx(0, abs=1))


def test_an_engine_the_router_does_not_have_cannot_be_drained(shared_rig):
    with pytest.raises(UserError, match="no engine called 'target-x'"):
        shared_rig.router.drain("target-x", 1, SystemClock())


def _read_whole(rig: Rig) -> None:
    with rig.client.stream("POST", "/v1/chat/completions", json={"model": "m", "stream": True}) as answer:
        answer.read()
