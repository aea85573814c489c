"""A rollback while a tick stands still between two of its writes, or while several act at once: everybody ends on the source."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from chaos_cases import CROWDS, STARTS, TRIPS, case_of, crowd
from chaos_checks import agree, nothing_is_lost_or_doubled, prepare
from chaos_stand import STEPS_BP, Case, Stand

from crossfade.errors import StaleWriter
from crossfade.failpoints import NAMES
from crossfade.guard.__main__ import guard_of
from crossfade.guard.outbox import Notice
from crossfade.guard.tripping import NotBack
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import FULL_BP

pytestmark = pytest.mark.slow


def trip(stand: Stand, case: Case) -> None:
    """What a guard does on a breach. It never waits for the tick, not even for one that holds the lock of folder or journal."""
    guard = guard_of(stand.home, listen="off")
    notice = Notice(route=case.route, migration=case.migration, attempt=1, rehearsal=False, at_s=time.time(), reason="a breach")
    assert not isinstance(guard.tripper.bring_back(notice), NotBack)


def everything_is_on_the_source(stand: Stand, case: Case) -> bool:
    return stand.weights(case) == ([0, FULL_BP], [0, FULL_BP])


def test_every_failpoint_is_overtaken_here_but_the_one_after_a_rollback() -> None:
    assert {failpoint.partition(":")[0] for _, failpoint in TRIPS} == set(NAMES) - {"after-rolled-back"}
    assert {about for about, _ in TRIPS} == set(STARTS)


@pytest.mark.parametrize(("about", "failpoint"), TRIPS)
def test_a_trip_wins_over_a_tick_that_stands_still_anywhere(stand: Stand, about: str, failpoint: str) -> None:
    case = case_of("trip", about, failpoint)
    stand.begin(case)
    prepare(stand.bench(case).desk, about, case)
    standing = stand.tick(case, stops_at=failpoint)
    try:
        trip(stand, case)
        assert everything_is_on_the_source(stand, case)
    finally:
        os.kill(standing.pid, signal.SIGCONT)
    standing.wait()
    assert everything_is_on_the_source(stand, case), standing.said()
    stand.ticked(case)
    assert (agree(stand, case), stand.journal.state(case.migration).phase) == (0, Phase.ROLLED_BACK), standing.said()
    assert list(stand.router.latches()).count(case.route) == 1
    nothing_is_lost_or_doubled(stand, case)
    assert stand.users.failed == []


def at_once(deeds: list[Callable[[], object]]) -> None:
    start, failed = threading.Barrier(len(deeds)), list[BaseException]()

    def do(deed: Callable[[], object]) -> None:
        start.wait(30)
        try:
            deed()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=do, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_of_two_ticks_at_once_one_moves_and_by_one_step(stand: Stand) -> None:
    case = crowd(CROWDS[0])
    stand.begin(case)
    ticks = [stand.tick(case, stops_at="before-decision") for _ in range(2)]
    for one in ticks:
        os.kill(one.pid, signal.SIGCONT)
    assert sorted(one.wait() for one in ticks) == [0, 1], [one.said() for one in ticks]
    assert "moved by somebody else" in "".join(one.said() for one in ticks)
    assert agree(stand, case) == STEPS_BP[1]
    nothing_is_lost_or_doubled(stand, case)


def test_ticks_guards_and_a_rollback_at_once_end_on_the_source(stand: Stand) -> None:
    case = crowd(CROWDS[1])
    stand.begin(case)
    ticks = [stand.tick(case, stops_at=failpoint) for failpoint in ("before-intent", "before-decision")]

    def by_automation() -> None:
        with suppress(StaleWriter):  # the source has everything then, and the next tick writes it down
            roll_back(stand.bench(case).desk, case.migration, why="an event", by="automation")

    go_on = [lambda one=one: os.kill(one.pid, signal.SIGCONT) for one in ticks]
    at_once([*go_on, lambda: trip(stand, case), lambda: trip(stand, case), by_automation])
    said = [f"{one.wait()}: {one.said()}" for one in ticks]
    assert everything_is_on_the_source(stand, case), said
    stand.ticked(case)
    assert (agree(stand, case), stand.journal.state(case.migration).phase) == (0, Phase.ROLLED_BACK), said
    nothing_is_lost_or_doubled(stand, case)
    assert stand.users.failed == []
