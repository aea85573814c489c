"""Faults of the target, row by row of the table that was measured (facts/router.md, section 6), with all of the share on it.

Refused connections, 502 to 504 before the body, 500, and a stream that dies are in `test_failover`; here is the rest.
"""

from __future__ import annotations

import time
from collections import Counter

import httpx
import pytest
from envoy_rig import eventually
from envoy_wire import ask_many, with_wire_engines

from crossfade.envoy.routefile import ATTEMPT_IDLE_S, render

pytestmark = pytest.mark.slow


@pytest.fixture
def wire_rig(cold_rig):
    rig = with_wire_engines(cold_rig)
    rig.route(10_000)
    eventually(lambda: rig.engines(1) == {"target": 1})
    return rig


def membership(rig) -> dict[str, int]:
    """What Envoy knows about the target's health."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(rig.stack.folder / "admin.sock")), base_url="http://envoy") as client:
        found = client.get("/stats", params={"filter": r"^cluster\.target\.", "format": "json"}).json()["stats"]
    return {entry["name"].removeprefix("cluster.target."): entry["value"] for entry in found if "name" in entry}


def test_a_target_that_closes_before_it_answers_is_hidden_from_clients_and_counted(wire_rig):
    wire_rig.target.fault = "reset"
    assert Counter(ask_many(wire_rig.stack.listen, 200, model="m", connections=40)) == {"source": 200}
    eventually(lambda: wire_rig.requests(route="m", intended="target", engine="source", code="200") == 200)


def test_a_target_that_hangs_before_it_answers_is_given_up_after_the_attempts_limit(wire_rig):
    """With the limit shortened in the route file: the product's is as long as the longest answer may take."""
    file = wire_rig.stack.folder / "rds.json"
    text = render(wire_rig.router.table()).replace(f'"{ATTEMPT_IDLE_S}s"', '"0.8s"').replace('"g1-', '"g2-')
    (wire_rig.stack.folder / "shortened").write_text(text)
    (wire_rig.stack.folder / "shortened").rename(file)
    wire_rig.target.fault = "hang"
    eventually(lambda: wire_rig.router.observed().generation == 2)
    began = time.monotonic()
    assert wire_rig.ask().json()["engine"] == "source"
    assert 0.7 < time.monotonic() - began < 5


@pytest.mark.parametrize("status", [400, 404, 429, 500, 501])
def test_an_answer_that_says_no_is_passed_on_as_it_is(wire_rig, status):
    wire_rig.target.status = status
    seen = wire_rig.target.seen
    assert Counter(ask_many(wire_rig.stack.listen, 20, model="m")) == {str(status): 20}
    assert wire_rig.target.seen == seen + 20


def test_a_target_that_dies_in_the_middle_of_a_stream_is_seen_by_the_client_and_counted(wire_rig):
    wire_rig.target.fault = "cut"
    assert ask_many(wire_rig.stack.listen, 4, model="m", connections=4) == ["200, cut"] * 4
    eventually(lambda: wire_rig.requests(route="m", intended="target", engine="target", code="200") == 5)
    assert wire_rig.requests(route="m", intended="target", engine="target", code="200", flags="-") == 1


def test_a_target_that_fails_its_health_check_is_not_asked_at_all(wire_rig):
    wire_rig.target.healthy = False
    eventually(lambda: membership(wire_rig)["membership_healthy"] == 0)
    seen = wire_rig.target.seen
    assert Counter(ask_many(wire_rig.stack.listen, 200, model="m")) == {"source": 200}
    assert wire_rig.target.seen == seen
    wire_rig.target.healthy = True
    eventually(lambda: wire_rig.engines(1) == {"target": 1})


def test_a_target_that_hangs_altogether_is_left_alone_once_its_health_check_fails(wire_rig):
    wire_rig.target.hangs = True
    eventually(lambda: membership(wire_rig)["membership_healthy"] == 0, within_s=20)
    assert Counter(ask_many(wire_rig.stack.listen, 100, model="m")) == {"source": 100}


def test_an_ejected_target_is_not_asked_and_comes_back_by_itself(wire_rig):
    wire_rig.target.status = 503
    assert Counter(ask_many(wire_rig.stack.listen, 50, model="m")) == {"source": 50}
    eventually(lambda: membership(wire_rig)["outlier_detection.ejections_active"] == 1)
    wire_rig.target.status, seen = 200, wire_rig.target.seen
    assert Counter(ask_many(wire_rig.stack.listen, 100, model="m")) == {"source": 100}
    assert wire_rig.target.seen == seen
    eventually(lambda: wire_rig.engines(1) == {"target": 1}, within_s=30)


def test_a_dead_target_costs_no_request_of_many_clients_at_once(wire_rig):
    """Envoy's default of 3 concurrent retries would fail nearly all of them."""
    wire_rig.target.stop()
    assert Counter(ask_many(wire_rig.stack.listen, 1_000, model="m", connections=100)) == {"source": 1_000}
