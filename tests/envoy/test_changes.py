"""Applying, refusing, tripping: what may change the route table, and what is in force afterwards."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from envoy_rig import eventually

from crossfade.envoy.folder import KEPT_GENERATIONS, RouteFolder
from crossfade.envoy.recovery import history
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import NotInForce, PermanentError, RouteRejected, StaleWriter, TemporaryError, Tripped, Unreachable, UserError
from crossfade.rollout.routes import Latch, ModelRoute, RouteTable, Upstream


def change(name: str, share_bp: int, upstream: Upstream = Upstream.TARGET) -> ModelRoute:
    return ModelRoute(name=name, models=(name,), share_bp=share_bp, upstream=upstream)


def test_an_applied_share_is_in_force_when_apply_returns(rig):
    assert rig.engines(5) == {"source": 5}
    applied = rig.router.apply(change("m", 10_000), expect=0)
    assert applied.table.generation == 1
    assert rig.router.observed() == rig.router.table() == applied.table
    assert rig.engines(20) == {"target": 20}


def test_a_change_of_one_route_leaves_the_others_as_they_are(rig):
    rig.route(2000, name="a")
    rig.route(3000, name="b")
    rig.router.remove("a", expect=2)
    assert rig.router.observed() == RouteTable(generation=3, routes=(change("b", 3000),))


def test_a_route_may_have_many_long_names(rig):
    names = tuple(f"hf.co/bartowski/Meta-Llama-3.1-{number}B-Instruct-GGUF:Q4_K_M" for number in range(60))
    rig.router.apply(ModelRoute(name="many", models=names, share_bp=10_000), expect=0)
    assert rig.engines(3, model=names[-1].upper()) == {"target": 3}


@pytest.mark.parametrize("name", ["a*b(c)[d]\\.+?{}|^$", 'quote"d', "x:latest:latest", "naïve", " "])
def test_a_model_name_is_taken_as_it_is_written(rig, name):
    rig.router.apply(ModelRoute(name="odd", models=(name,), share_bp=10_000), expect=0)
    assert rig.engines(3, model=name) == {"target": 3}
    assert rig.engines(3, model=name + "x") == {"source": 3}


def test_a_change_that_changes_nothing_is_verified_like_any_other(rig):
    rig.route(1000)
    rig.route(1000)
    assert rig.router.observed().generation == 2


def test_a_stale_generation_is_refused_and_changes_nothing(rig):
    rig.route(1000)
    with pytest.raises(StaleWriter, match="generation 1, not 0"):
        rig.router.apply(change("m", 5000), expect=0)
    assert rig.router.observed().route("m").share_bp == 1000


def test_two_routes_for_one_model_name_are_refused(rig):
    rig.route(1000)
    with pytest.raises(UserError, match="'m' is in two routes"):
        rig.router.apply(ModelRoute(name="other", models=("M:latest",), share_bp=0), expect=1)
    assert rig.router.table().generation == 1


def test_a_table_that_envoy_refuses_in_preflight_is_never_written(rig):
    rig.route(1000)
    text = rig.stack.folder.joinpath("bootstrap.json").read_text()
    rig.stack.folder.joinpath("bootstrap.json").write_text(text.replace('"name": "broken_or_source"', '"name": "renamed"'))
    with pytest.raises(RouteRejected, match="broken_or_source"):
        rig.router.apply(change("hidden", 10_000, Upstream.REHEARSAL_BREACH), expect=1)
    assert rig.router.table() == rig.router.observed() == RouteTable(generation=1, routes=(change("m", 1000),))


def test_a_table_that_the_running_envoy_refuses_is_withdrawn_and_its_reason_quoted(rig):
    """The running Envoy knows fewer clusters than the bootstrap file, so that the pre-flight passes and the real thing does not."""
    rig.kill()
    reduced = json.loads(rig.stack.folder.joinpath("bootstrap.json").read_text())
    clusters = reduced["static_resources"]["clusters"]
    reduced["static_resources"]["clusters"] = [cluster for cluster in clusters if cluster["name"] != "broken_or_source"]
    rig.start_from(json.dumps(reduced))
    rig.route(1000)
    with pytest.raises(RouteRejected, match="unknown weighted cluster 'broken_or_source'"):
        rig.router.apply(change("hidden", 10_000, Upstream.REHEARSAL_BREACH), expect=1)
    assert rig.router.table() == rig.router.observed() == RouteTable(generation=1, routes=(change("m", 1000),))
    assert rig.router.apply(change("m", 2000), expect=1).table.generation == 2


def test_a_tripped_route_is_on_the_source_and_cannot_rise_until_resumed(rig):
    rig.route(10_000)
    tripped = rig.router.trip("m", why="errors", by="guard", at_s=12.0)
    assert tripped.table.route("m").share_bp == 0
    assert rig.router.observed() == tripped.table
    assert rig.engines(10) == {"source": 10}
    assert rig.router.latches() == {"m": Latch(why="errors", by="guard", at_s=12.0)}
    with pytest.raises(Tripped, match=r"tripped by guard: errors.*until a person resumes"):
        rig.router.apply(change("m", 100), expect=tripped.table.generation)
    rig.router.resume("m")
    rig.route(10_000)
    assert rig.engines(10) == {"target": 10}


def test_a_second_trip_changes_nothing_and_keeps_the_first_reason(rig):
    rig.route(5000)
    first = rig.router.trip("m", why="first", by="guard", at_s=1.0)
    second = rig.router.trip("m", why="second", by="person", at_s=2.0)
    assert second.table == first.table
    assert rig.router.latches()["m"].why == "first"


def test_a_trip_leaves_other_routes_alone(rig):
    rig.route(5000, name="a")
    rig.route(6000, name="b")
    assert rig.router.trip("a", why="w", by="b", at_s=0).table.route("b").share_bp == 6000
    rig.route(7000, name="b")
    assert rig.router.observed().route("a").share_bp == 0


def test_a_removed_route_cannot_come_back_over_its_latch(rig):
    rig.route(5000)
    rig.router.trip("m", why="w", by="b", at_s=0)
    rig.router.remove("m", expect=2)
    with pytest.raises(Tripped):
        rig.router.apply(change("m", 1), expect=3)


def test_tripping_a_route_that_does_not_exist_is_the_users_mistake(rig):
    rig.route(100)
    with pytest.raises(UserError, match=r"no route is called 'x'.*there are: m"):
        rig.router.trip("x", why="w", by="b", at_s=0)
    assert rig.router.latches() == {}


def test_a_trip_takes_effect_when_the_admin_socket_is_gone(rig):
    rig.route(10_000)
    rig.stack.folder.joinpath("admin.sock").unlink()
    with pytest.raises(Unreachable):
        rig.router.apply(change("m", 5000), expect=1)
    applied = rig.router.trip("m", why="w", by="guard", at_s=0)
    assert applied.table == rig.router.table()
    assert applied.seconds < 2
    eventually(lambda: rig.engines(10) == {"source": 10})


def test_a_trip_with_envoy_dead_is_in_force_when_it_comes_back(rig):
    rig.route(10_000)
    rig.kill()
    assert rig.router.trip("m", why="w", by="guard", at_s=0).table.route("m").share_bp == 0
    rig.start()
    assert rig.engines(10) == {"source": 10}


def test_a_trip_does_not_wait_for_a_writer_that_hangs_in_the_lock(rig):
    rig.route(10_000)
    with RouteFolder(rig.stack.folder).locked(deadline_s=1):
        applied = rig.router.trip("m", why="w", by="guard", at_s=0)
    assert applied.seconds < 2
    assert rig.engines(10) == {"source": 10}


def test_a_trip_does_not_wait_for_an_envoy_that_hangs(rig):
    rig.route(10_000)
    os.kill(rig.program.pid, signal.SIGSTOP)
    try:
        assert rig.router.trip("m", why="w", by="guard", at_s=0).seconds < 2
    finally:
        os.kill(rig.program.pid, signal.SIGCONT)
    eventually(lambda: rig.engines(10) == {"source": 10})


def test_a_trip_restores_an_unreadable_route_file_with_its_route_at_zero(rig):
    rig.route(4000, name="other")
    rig.route(10_000)
    rig.stack.folder.joinpath("rds.json").write_text("{")
    with pytest.raises(PermanentError, match="restores"):
        rig.router.table()
    applied = rig.router.trip("m", why="w", by="guard", at_s=0)
    assert {route.name: route.share_bp for route in applied.table.routes} == {"other": 4000, "m": 0}
    assert rig.router.observed() == applied.table


def test_a_latch_that_cannot_be_read_still_holds(rig):
    rig.route(100)
    rig.stack.folder.joinpath("latches", "m.json").write_text("half")
    with pytest.raises(Tripped, match="cannot be read"):
        rig.router.apply(change("m", 200), expect=1)


def test_nothing_is_written_while_envoy_is_down(rig):
    rig.route(1000)
    rig.kill()
    with pytest.raises(Unreachable, match="is Envoy running"):
        rig.router.apply(change("m", 0), expect=1)
    assert rig.router.table().generation == 1


def test_files_are_for_this_user_alone(rig):
    rig.route(1000)
    rig.router.trip("m", why="w", by="b", at_s=0)
    for file in rig.stack.folder.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0 or file.name == "envoy.log", file


def test_the_last_generations_are_kept_and_no_more(tmp_path):
    folder = RouteFolder(tmp_path)
    folder.prepare()
    for number in range(KEPT_GENERATIONS + 5):
        folder.store(RouteTable(generation=number))
    kept = [table.generation for table in history(folder)]
    assert kept == list(range(KEPT_GENERATIONS + 4, 4, -1))


def _write_for_ever(path: Path) -> None:
    folder = RouteFolder(path)
    while True:
        with folder.locked(deadline_s=10):
            table = folder.table()
            folder.store(table.with_route(change("m" * (1 + table.generation % 40), table.generation % 10_001)))


def test_killed_writers_leave_whole_files_only(tmp_path):
    folder = RouteFolder(tmp_path)
    folder.prepare()
    folder.store(RouteTable())
    for _ in range(12):
        before = folder.table().generation
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(tmp_path,))
        writer.start()
        eventually(lambda before=before: folder.table().generation > before)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        newest = folder.table().generation  # raises when half-written
        assert next(history(folder)).generation in (newest, newest + 1)


@pytest.mark.slow
def test_two_writers_lose_no_change_of_each_other(rig):
    """Each retries when it was stale; in the end both routes stand at their last share."""
    rig.route(0, name="a")
    rig.route(0, name="b")
    writers = [multiprocessing.get_context("spawn").Process(target=_raise_to, args=(rig.stack.folder, name, 5)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert {route.name: route.share_bp for route in rig.router.observed().routes} == {"a": 5, "b": 5}
    assert rig.router.table().generation == 2 + 10


def _raise_to(folder: Path, name: str, share_bp: int) -> None:
    router = EnvoyRouter(folder)
    for step in range(1, share_bp + 1):
        applied = False
        while not applied:
            try:
                router.apply(change(name, step), expect=router.table().generation)
                applied = True
            except StaleWriter:
                continue


@pytest.mark.slow
def test_a_trip_wins_against_a_writer_that_keeps_raising(rig):
    rig.route(1)
    writer = multiprocessing.get_context("spawn").Process(target=_raise_to, args=(rig.stack.folder, "m", 9000))
    writer.start()
    eventually(lambda: rig.router.table().generation > 3)
    assert rig.router.trip("m", why="w", by="guard", at_s=0).seconds < 2
    writer.join(20)
    assert writer.exitcode == 1  # it ended by Tripped
    assert rig.router.observed().route("m").share_bp == 0
    assert rig.router.table() == rig.router.observed()


def another_in_its_place(folder: Path) -> None:
    """The same files in a new folder, as after a restored backup: Envoy answers questions and goes on watching the old one."""
    old = folder.rename(folder.with_name("before"))
    shutil.copytree(old, folder, symlinks=True, ignore=shutil.ignore_patterns("*-*.sock"))
    for socket in old.glob("admin-*.sock"):
        (folder / socket.name).hardlink_to(socket)


def test_a_trip_that_envoy_does_not_follow_in_time_is_worth_another_try(rig):
    rig.route(5000)
    another_in_its_place(rig.stack.folder)
    with pytest.raises(NotInForce, match=r"1 s after generation 2 was written; the latch and the route file are in place"):
        rig.router.trip("m", why="w", by="guard", at_s=0)
    assert issubclass(NotInForce, TemporaryError)
    assert rig.router.table().route("m").share_bp == 0
    assert rig.router.observed().route("m").share_bp == 5000
    rig.kill()
    rig.start()
    assert rig.router.trip("m", why="w", by="guard", at_s=0).table == rig.router.observed()
