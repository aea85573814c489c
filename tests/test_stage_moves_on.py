"""A stage that is done moves its migration on, whatever people order in that moment; no Prefect runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from crossfade.errors import StaleWriter, Superseded
from crossfade.home import Home
from crossfade.ports import Entry
from crossfade.ramp import orders
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import Attempt, MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.wiring import Bench, open_bench
from tasks.stage import move_on

MIGRATION = "chat/lab"
PLAN = """
name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: lab, huggingface: a/b}]
"""


class Interrupted(SqlJournal):
    """The real journal, in which something else is written just before each of the first `times` moves."""

    def __init__(self, path: Path, times: int, deed: str) -> None:
        super().__init__(path)
        self._times, self._deed, self._other = times, deed, SqlJournal(path)

    def move(self, moved: MigrationState, entry: Entry, memory: Mapping[str, str] | None = None) -> MigrationState:
        if self._times > 0:
            self._times -= 1
            state = self._other.state(MIGRATION)
            deeds = {"fail": Phase.FAILED, "twin": Phase.ASSESSED}
            changed = state.with_pause("ada")
            if self._deed in deeds:
                changed = state.with_phase(deeds[self._deed], now_s=2.0, because="by another")
            self._other.move(changed, Entry(MIGRATION, 1, 2.0, "note", "by another", "{}"))
        return super().move(moved, entry, memory)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSFADE_JOURNAL", raising=False)
    SqlJournal(Home(tmp_path).journal).begin(MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=1.0, share_since_s=1.0), PLAN)
    return open_bench(MIGRATION)


def interrupted(bench: Bench, times: int, deed: str = "pause") -> Bench:
    return replace(bench, desk=replace(bench.desk, journal=Interrupted(bench.home.journal, times, deed)))


def test_a_pause_in_the_same_moment_costs_no_work_and_stays(bench: Bench) -> None:
    moved = move_on(interrupted(bench, 2), Attempt(MIGRATION, 1), Phase.ASSESSED, "assessed")
    assert (moved.phase, moved.paused_by) == (Phase.ASSESSED, "ada")
    assert bench.state() == moved
    assert "goes on" in orders.resume(bench.desk, MIGRATION, by="ada", why="w")


def test_what_never_stops_moving_is_given_up_and_left_as_it_is(bench: Bench) -> None:
    with pytest.raises(StaleWriter, match="reached assessed, but the journal kept moving"):
        move_on(interrupted(bench, 99), Attempt(MIGRATION, 1), Phase.ASSESSED, "assessed")
    assert bench.state().phase is Phase.PLANNED


def test_a_milestone_that_another_run_entered_in_that_moment_is_no_error(bench: Bench) -> None:
    moved = move_on(interrupted(bench, 1, "twin"), Attempt(MIGRATION, 1), Phase.ASSESSED, "assessed")
    assert (moved.phase, moved.because) == (Phase.ASSESSED, "by another")


def test_an_attempt_that_ended_in_that_moment_is_not_moved_on(bench: Bench) -> None:
    with pytest.raises(Superseded):
        move_on(interrupted(bench, 1, "fail"), Attempt(MIGRATION, 1), Phase.ASSESSED, "assessed")
    assert bench.state().phase is Phase.FAILED
