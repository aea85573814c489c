"""Writers stopped or killed at every moment of a change: nothing half, nothing lost, and a tripped route ends at 0."""

from __future__ import annotations

import logging
import random
import threading

import pytest
from envoy_boundaries import Apply, ApplyForEver, Trip, Writer, change, share_of
from envoy_rig import eventually

from crossfade.envoy.folder import RouteFolder
from crossfade.errors import CrossfadeError, Tripped
from crossfade.rollout.routes import RouteTable

pytestmark = pytest.mark.slow

_LOG = logging.getLogger(__name__)

KILLS = 18
APPLY_MOMENTS = 4
"""Before and after the rename of the generation, and of the route file."""
TRIP_MOMENTS = 7
"""The same after those of the latch."""


def settled(rig) -> RouteTable:
    """The table once folder and Envoy agree, as they must by themselves."""
    eventually(rig.serves)
    table = rig.router.table()
    assert rig.router.observed() == table
    return table


def shares(table: RouteTable) -> dict[str, int]:
    return {route.name: route.share_bp for route in table.routes}


def stopped_at(rig, work, moment) -> Writer:
    writer = Writer(rig.stack.folder, work, moment)
    eventually(lambda: writer.stands_still() or writer.over())
    assert writer.stands_still(), f"there is no moment {moment} in {work}"
    return writer


@pytest.mark.parametrize(("work", "moments"), [(Apply("m", 7_000), APPLY_MOMENTS), (Trip("m"), TRIP_MOMENTS)])
def test_all_moments_of_a_change_are_covered_here(rig, work, moments):
    rig.route(3_000)
    last = stopped_at(rig, work, moments - 1)
    last.go_on()
    assert last.outcome() == "done"
    rig.router.resume("m")
    rig.route(3_000)
    assert Writer(rig.stack.folder, work, moments).outcome() == "done"  # it never came to that moment


def test_a_writer_killed_at_any_time_leaves_exactly_the_old_or_the_new_table(rig):
    rig.router.apply(change("m", share_of(1)), expect=0)
    chance, ended_at = random.Random(7), set[int]()  # noqa: S311
    for kill in range(KILLS):
        before = rig.router.table().generation
        writer = Writer(rig.stack.folder, ApplyForEver("m"))
        if kill % 3:
            eventually(lambda before=before: rig.router.table().generation > before)
        writer.process.join(chance.uniform(0, 0.25))  # any time: it never ends by itself
        writer.kill()
        after_kill = rig.router.table()
        assert after_kill.routes == (change("m", share_of(after_kill.generation)),)
        if kill % 6 == 0:
            rig.kill()
            rig.start()
        table = settled(rig)
        assert table == after_kill
        ended_at.add(table.generation)
        applied = rig.router.apply(change("m", share_of(table.generation + 1)), expect=table.generation)
        assert rig.router.observed() == applied.table
    _LOG.info(f"{KILLS} kills, {rig.router.table().generation} generations, {len(ended_at)} different ones survived a kill")


@pytest.mark.parametrize("moment", range(APPLY_MOMENTS))
def test_a_writer_killed_at_a_write_boundary_leaves_the_old_or_the_new_table(rig, moment):
    rig.route(3_000)
    rig.route(100, name="other")
    stopped_at(rig, Apply("m", 7_000), moment).kill()
    landed = moment == APPLY_MOMENTS - 1
    assert shares(settled(rig)) == {"m": 7_000 if landed else 3_000, "other": 100}
    rig.kill()
    rig.start()
    assert shares(settled(rig)) == {"m": 7_000 if landed else 3_000, "other": 100}
    rig.route(200, name="other")
    assert shares(settled(rig)) == {"m": 7_000 if landed else 3_000, "other": 200}


@pytest.mark.parametrize("ends", ["goes on", "killed"])
@pytest.mark.parametrize("moment", range(APPLY_MOMENTS))
def test_a_trip_wins_against_a_rise_that_stands_still_at_any_write_boundary(rig, moment, ends):
    """The rise holds the lock and never lets go: the trip must not wait for it, and the rise must not undo it."""
    rig.route(3_000)
    rig.route(100, name="other")
    writer = stopped_at(rig, Apply("m", 7_000), moment)
    tripped = rig.router.trip("m", why="breach", by="guard", at_s=1.0)
    assert tripped.seconds < 3
    assert shares(settled(rig)) == {"m": 0, "other": 100}
    if ends == "killed":
        writer.kill()
    else:
        writer.go_on()
        assert writer.outcome() in ("Tripped", "StaleWriter")
    assert shares(settled(rig)) == {"m": 0, "other": 100}
    with pytest.raises(Tripped):
        rig.route(1)
    rig.route(200, name="other")
    assert shares(settled(rig)) == {"m": 0, "other": 200}


@pytest.mark.parametrize("moment", range(APPLY_MOMENTS))
def test_a_rise_that_stood_still_while_a_trip_came_never_lands(rig, moment):
    """Two faults at once: it goes on after the trip, and whoever would kill it at its next moment finds that there is none with a share."""
    rig.route(3_000)
    writer = stopped_at(rig, Apply("m", 7_000), moment)
    assert rig.router.trip("m", why="breach", by="guard", at_s=1.0).table.route("m").share_bp == 0
    tripped = rig.router.table()
    writer.go_on()
    assert writer.outcome() in ("Tripped", "StaleWriter")
    assert rig.router.table() == rig.router.observed() == tripped  # not even for a moment: a generation is never written twice
    newest = next(iter(RouteFolder(rig.stack.folder).generations()))
    assert newest == tripped


def test_a_rise_killed_right_after_the_rename_that_a_trip_has_forbidden_leaves_nothing_behind(rig):
    rig.route(3_000)
    writer = Writer(rig.stack.folder, Apply("m", 7_000), APPLY_MOMENTS - 2, APPLY_MOMENTS - 1)
    eventually(writer.stands_still)
    rig.router.trip("m", why="breach", by="guard", at_s=1.0)
    writer.go_on()
    eventually(writer.over)  # it has no second moment: the rename failed
    assert writer.outcome() == "Tripped"
    assert shares(settled(rig)) == {"m": 0}
    assert not list(rig.stack.folder.glob(".*.tmp"))


def test_two_trips_at_once_do_not_undo_each_other(rig):
    """The second finds the lock taken, and takes the first one's draft away."""
    rig.route(3_000)
    rig.route(4_000, name="other")
    first = stopped_at(rig, Trip("m"), TRIP_MOMENTS - 2)
    rig.router.trip("other", why="breach", by="guard", at_s=1.0)
    assert shares(settled(rig)) == {"m": 0, "other": 0}
    first.go_on()
    assert first.outcome() == "done"
    assert shares(settled(rig)) == {"m": 0, "other": 0}


@pytest.mark.parametrize("ends", ["goes on", "killed"])
@pytest.mark.parametrize("moment", range(TRIP_MOMENTS))
def test_a_trip_that_stands_still_at_any_write_boundary_cannot_be_overtaken_by_a_rise(rig, moment, ends):
    rig.route(3_000)
    rig.route(100, name="other")
    trip = stopped_at(rig, Trip("m"), moment)
    latched = moment > 0
    outcome: list[str] = []

    def rise() -> None:
        try:
            rig.route(9_000)
            outcome.append("risen")
        except CrossfadeError as error:
            outcome.append(type(error).__name__)

    rising = threading.Thread(target=rise)
    rising.start()
    rising.join(0.3 if latched else 20)  # once the latch is there it may wait for the trip's lock, which is what is wanted
    if ends == "killed":
        trip.kill()
    else:
        trip.go_on()
        assert trip.outcome() == "done"
    rising.join(20)
    assert outcome[0] in (("Tripped", "StaleWriter") if latched else ("risen",))
    rig.start()  # a start puts right what a killed trip left undone
    expected = 0 if latched or ends == "goes on" else 9_000
    assert shares(settled(rig)) == {"m": expected, "other": 100}


@pytest.mark.parametrize("ends", ["goes on", "killed"])
@pytest.mark.parametrize("moment", range(APPLY_MOMENTS))
def test_two_writers_for_different_routes_lose_nothing_of_each_other_at_any_write_boundary(rig, moment, ends):
    rig.route(1_000, name="a")
    rig.route(1_000, name="b")
    first = stopped_at(rig, Apply("a", 2_000), moment)
    second = Writer(rig.stack.folder, Apply("b", 3_000))
    second.process.join(0.3)  # so that it stands at the lock
    if ends == "killed":
        first.kill()
    else:
        first.go_on()
        assert first.outcome() == "done"
    assert second.outcome() == "done"
    survives = ends == "goes on" or moment == APPLY_MOMENTS - 1
    assert shares(settled(rig)) == {"a": 2_000 if survives else 1_000, "b": 3_000}


@pytest.mark.parametrize("moment", range(APPLY_MOMENTS))
def test_of_two_writers_with_the_same_expectation_for_one_route_only_one_succeeds(rig, moment):
    rig.route(1_000)
    first = stopped_at(rig, Apply("m", 2_000), moment)
    outcome: list[str] = []

    def overtake() -> None:
        try:
            rig.router.apply(change("m", 3_000), expect=1)
            outcome.append("done")
        except CrossfadeError as error:
            outcome.append(type(error).__name__)

    second = threading.Thread(target=overtake)
    second.start()
    second.join(0.3)
    first.go_on()
    assert first.outcome() == "done"
    second.join(20)
    assert outcome == ["StaleWriter"]
    assert settled(rig) == RouteTable(generation=2, routes=(change("m", 2_000),))
