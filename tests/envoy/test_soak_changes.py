"""A thousand share changes under load, cutover and rollback: nobody notices."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from envoy_rig import Rig, eventually
from envoy_wire import Loop, Traffic, Wire, ask_many, stream_engine, with_wire_engines

from crossfade.rollout.routes import ModelRoute

pytestmark = pytest.mark.slow

_LOG = logging.getLogger(__name__)

CHANGES = 1_000


@pytest.fixture
def wire_rig(cold_rig):
    return with_wire_engines(cold_rig)


def change_share(rig: Rig, number: int) -> None:
    """Two steps up, each a whole verified `apply`, then one to zero by `trip`: a third of the changes takes no pre-flight."""
    if number % 3 < 2:
        change = ModelRoute(name="m", models=("m",), share_bp=(number * 617) % 9_999 + 1)
        share_bp = rig.router.apply(change, expect=rig.router.table().generation).table.route("m").share_bp
        assert share_bp == change.share_bp
    else:
        assert rig.router.trip("m", why="soak", by="test", at_s=0).table.route("m").share_bp == 0
        rig.router.resume("m")


def test_a_thousand_share_changes_fail_no_request_and_cut_no_stream(wire_rig):
    traffic = Traffic(wire_rig.stack.listen, "m").start(short=4, streams=24, events=40, every_s=0.05)
    try:
        for number in range(CHANGES):
            change_share(wire_rig, number)
    finally:
        tally = traffic.stop()
    _LOG.info(f"{CHANGES} changes: requests {dict(tally.requests)}, streams {dict(tally.streams)}, {tally.failed=}, {tally.cut=}")
    assert (tally.failed, tally.cut) == ([], [])
    assert wire_rig.router.table() == wire_rig.router.observed()
    assert wire_rig.router.table().generation == CHANGES
    assert min(tally.requests["source"], tally.requests["target"]) > 500  # the load was there, and both engines had their share
    assert set(tally.streams) == {f"{kind} {engine}" for kind in ("sse", "ndjson") for engine in ("source", "target")}


async def _held_streams(address: str, count: int) -> list[str]:
    async def one(number: int) -> str:
        kind = ("sse", "ndjson")[number % 2]
        wire = Wire(address)
        answer = await wire.ask(model="m", stream=kind, events=100, held=True)
        wire.close()
        return stream_engine(answer, kind, 100)

    return await asyncio.gather(*(one(number) for number in range(count)))


def test_streams_in_flight_at_cutover_and_rollback_finish_on_the_engine_they_began_on(wire_rig):
    rig, address, loop = wire_rig, wire_rig.stack.listen, Loop()
    rig.route(0)
    try:
        before = loop.begin(_held_streams(address, 50))
        eventually(lambda: rig.source.streaming == 50)
        rig.route(10_000)
        assert Counter(ask_many(address, 100, model="m")) == {"target": 100}
        during = loop.begin(_held_streams(address, 50))
        eventually(lambda: rig.target.streaming == 50)
        assert (rig.router.active_requests("source"), rig.router.active_requests("target")) == (50, 50)
        rig.router.trip("m", why="rollback", by="test", at_s=0)
        assert Counter(ask_many(address, 100, model="m")) == {"source": 100}
        assert (rig.source.streaming, rig.target.streaming) == (50, 50)
        for engine in (rig.source, rig.target):
            engine.open_gate()
        assert Counter(before.result(20)) == {"source": 50}
        assert Counter(during.result(20)) == {"target": 50}
        eventually(lambda: (rig.router.active_requests("source"), rig.router.active_requests("target")) == (0, 0))
    finally:
        loop.close()
