"""A broken route file: what comes back, what comes back lower, and that it is said."""

from __future__ import annotations

import logging

import pytest
from envoy_rig import Rig

from crossfade.envoy import process
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.recovery import Lowered, Restored, Sound, settle
from crossfade.rollout.routes import ModelRoute, RouteTable


def shares(table: RouteTable) -> dict[str, int]:
    return {route.name: route.share_bp for route in table.routes}


def lowered(restored: Restored) -> dict[str, tuple[int, int]]:
    return {one.route: (one.from_bp, one.to_bp) for one in restored.lowered}


@pytest.fixture
def kept(tmp_path) -> RouteFolder:
    """A folder of three generations: a fell, b rose, c stayed."""
    folder = RouteFolder(tmp_path)
    folder.prepare()
    table = RouteTable()
    for name, share_bp in (("a", 9000), ("b", 1000), ("c", 4000), ("a", 500), ("b", 2000)):
        table = table.with_route(ModelRoute(name=name, models=(name,), share_bp=share_bp, shadow_bp=100))
        folder.store(table)
    return folder


@pytest.mark.parametrize("broken", ["{", "", "{}", "gone"])
def test_envoy_is_never_started_on_a_broken_route_file_but_on_the_newest_good_generation(rig: Rig, caplog, broken):
    rig.route(5000)
    rig.route(5000, name="tripped")
    rig.route(7000)
    rig.kill()
    file = rig.stack.folder / "rds.json"
    file.unlink() if broken == "gone" else file.write_text(broken)
    rig.stack.folder.joinpath("latches", "tripped.json").write_text('{"why": "w", "by": "b", "at_s": 0}')
    with caplog.at_level(logging.WARNING):
        restored = rig.start().settled
    assert isinstance(restored, Restored)
    assert (restored.generation, restored.table.generation) == (3, 4)
    # 50 %: whether the rise to 70 % was in force when the file broke is not known
    assert lowered(restored) == {"tripped": (5000, 0), "m": (7000, 5000)}
    assert rig.router.observed() == restored.table
    assert shares(restored.table) == {"tripped": 0, "m": 5000}
    assert "generation 3 restored as generation 4" in caplog.text
    assert "tripped from 50% to 0%: tripped by b: w" in caplog.text
    assert rig.start().settled == Sound(restored.table)


def test_a_sound_route_file_is_left_alone_whatever_was_intended(kept):
    before = kept.table()
    assert settle(kept, {"a": 0, "b": 0, "c": 0}) == Sound(before)


def test_a_route_whose_newer_intent_was_lower_comes_back_at_zero(kept):
    kept.route_file.write_text("{")
    restored = settle(kept, {"c": 3999, "a": 500})
    assert isinstance(restored, Restored)
    assert shares(restored.table) == {"c": 0, "a": 500, "b": 1000}
    assert Lowered("c", 4000, 0, "its newest intent was 39.99%") in restored.lowered
    assert restored.table.route("c").shadow_bp == 0
    assert restored.table.route("a").shadow_bp == 100


def test_everything_comes_back_at_zero_when_a_newer_generation_cannot_be_read(kept):
    """It may have been the one that lowered a share."""
    newest = sorted(kept.path.glob("generations/*.json"))[-1]
    newest.write_text(newest.read_text()[:-20])
    kept.route_file.write_text("{")
    restored = settle(kept)
    assert isinstance(restored, Restored)
    assert restored.generation == 4
    assert shares(restored.table) == {"a": 0, "b": 0, "c": 0}
    assert all("a newer generation may have lowered it" in one.why for one in restored.lowered)
    assert restored.table.generation == 6


def test_without_any_readable_generation_everything_is_on_the_source(kept):
    for file in kept.path.glob("generations/*.json"):
        file.write_text("")
    kept.route_file.unlink()
    restored = settle(kept)
    assert isinstance(restored, Restored)
    assert (restored.generation, restored.table) == (0, RouteTable(generation=6))
    assert settle(kept) == Sound(restored.table)


def test_intents_on_record_reach_the_start(rig: Rig):
    rig.route(5000)
    rig.kill()
    rig.stack.folder.joinpath("rds.json").write_text("{")
    rig.program = process.start(rig.stack, rig.home, intents={"m": 100})
    assert lowered(rig.program.settled) == {"m": (5000, 0)}
    assert rig.engines(10) == {"source": 10}
