"""What the journal keeps and refuses, on SQLite and on PostgreSQL alike."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_words import TS0, TS1, note, planned
from sqlalchemy import URL
from sqlalchemy.exc import IntegrityError

from crossfade.errors import PermanentError, StaleWriter, UnknownMigration, UserError
from crossfade.ports import Entry
from crossfade.rollout.phases import Phase
from crossfade.store.chain import Whole
from crossfade.store.journal import SqlJournal
from crossfade.store.schema import about

Place = Path | URL


def test_what_was_begun_is_read_back_with_its_plan(journal: SqlJournal) -> None:
    begun = journal.begin(planned(), "name: chat\n")
    assert journal.state("chat/lab") == begun
    assert journal.plan_text("d1") == "name: chat\n"
    assert [entry.kind for entry in journal.entries("chat/lab")] == ["plan"]


def test_a_second_look_at_the_same_place_finds_what_the_first_wrote(journal: SqlJournal, place: Place) -> None:
    begun = journal.begin(planned(), "p")
    journal.record(note(), {"judge": "{}"})
    again = SqlJournal(place)
    assert again.state("chat/lab") == begun
    assert again.recall("chat/lab", "judge") == "{}"
    assert again.entries("chat/lab") == journal.entries("chat/lab")


def test_an_entry_comes_back_letter_for_letter(journal: SqlJournal) -> None:
    journal.begin(planned(), "p")
    told = Entry("chat/lab", 1, 1_764_004_211.123457, "note", "später, 停止, a%s:b", '{"nul": "\\u0000", "of": [1e-05, "Infinity"]}')
    journal.record(told)
    (kept,) = journal.entries("chat/lab", newest=1)
    assert kept == Entry(told.migration, told.attempt, told.at_s, told.kind, told.subject, told.body, kept.id)


def test_the_second_of_two_writers_is_stale_and_changes_nothing(journal: SqlJournal) -> None:
    read = journal.begin(planned(), "p")
    first = journal.move(read.with_phase(Phase.ASSESSED, now_s=TS1, because="first"), note(), {"judge": "first"})
    with pytest.raises(StaleWriter):
        journal.move(read.with_phase(Phase.FAILED, now_s=TS1, because="second"), note(), {"judge": "second"})
    assert journal.state("chat/lab") == first
    assert journal.recall("chat/lab", "judge") == "first"
    assert len(journal.entries("chat/lab")) == 2


def test_a_migration_under_way_cannot_be_begun_again(journal: SqlJournal) -> None:
    journal.begin(planned(), "p")
    with pytest.raises(UserError, match="already under way"):
        journal.begin(planned(), "p")


def test_an_ended_migration_begins_its_next_attempt_without_evidence(journal: SqlJournal) -> None:
    begun = journal.begin(planned(), "p")
    journal.move(begun.with_phase(Phase.FAILED, now_s=TS1, because="disk full"), note())
    again = journal.begin(planned(), "p")
    assert (again.attempt, again.phase, again.share_bp, again.step) == (2, Phase.PLANNED, 0, -1)


def test_an_unknown_name_is_answered_with_the_known_ones(journal: SqlJournal) -> None:
    journal.begin(planned(), "p")
    with pytest.raises(UnknownMigration, match="chat/lab"):
        journal.state("chat/other")


def test_the_newest_change_is_listed_first(journal: SqlJournal) -> None:
    one, _two = journal.begin(planned("chat/one"), "p"), journal.begin(planned("chat/two"), "p")
    journal.move(one.with_phase(Phase.ASSESSED, now_s=TS1, because=""), Entry("chat/one", 1, TS1, "phase", "assessed", "{}"))
    assert [state.name for state in journal.states()] == ["chat/one", "chat/two"]


def test_a_plan_nobody_stored_is_not_made_up(journal: SqlJournal) -> None:
    with pytest.raises(PermanentError, match=r"no plan with digest d2.*CROSSFADE_HOME"):
        journal.plan_text("d2")


def test_what_is_remembered_is_what_was_said_last(journal: SqlJournal) -> None:
    begun = journal.begin(planned(), "p")
    assert journal.recall("chat/lab", "judge") == ""
    journal.record(note(), {"judge": "1", "opening": "a"})
    journal.record(note(), {"judge": "2"})
    assert (journal.recall("chat/lab", "judge"), journal.recall("chat/lab", "opening")) == ("2", "a")
    journal.move(begun.with_phase(Phase.FAILED, now_s=TS1, because=""), note(), {"judge": "3"})
    journal.begin(planned(), "p")
    assert journal.recall("chat/lab", "judge") == "3"  # it outlives an attempt
    assert journal.recall("chat/other", "judge") == ""


def test_a_memory_is_stored_with_its_entry_or_not_at_all(journal: SqlJournal) -> None:
    journal.begin(planned(), "p")
    journal.record(note(), {"judge": "before"})
    with pytest.raises(IntegrityError):
        journal.record(note(), {"judge": "after", "null": None})  # type: ignore[dict-item]
    assert journal.recall("chat/lab", "judge") == "before"
    assert len(journal.entries("chat/lab")) == 2
    assert isinstance(journal.check("chat/lab"), Whole)


def test_entries_are_found_by_kind_subject_and_attempt_and_the_newest_come_oldest_first(journal: SqlJournal) -> None:
    journal.begin(planned(), "p")
    journal.begin(planned("chat/other"), "p")
    for number in range(1, 7):
        kind, subject = ("decision", "step") if number % 2 else ("outcome", "share")
        journal.record(Entry("chat/lab", 1 + number // 4, TS0 + number, kind, subject, f"{number}"))  # type: ignore[arg-type]
        journal.record(Entry("chat/other", 1, TS0 + number, "decision", "step", "other"))

    def bodies(**asked: object) -> str:
        return "".join(entry.body for entry in journal.entries("chat/lab", **asked))  # type: ignore[arg-type]

    assert bodies(kind="decision") == "135"
    assert bodies(kind="decision", attempt=2) == "5"
    assert bodies(attempt=2) == "456"
    assert bodies(subject="share") == "246"
    assert bodies(kind="outcome", subject="share", newest=2) == "46"
    assert bodies(newest=3) == "456"
    assert bodies(kind="decision", subject="share") == ""
    assert bodies(kind="outcome", newest=99) == "246"


def test_a_walk_gives_every_entry_once_however_many_pages_there_are(journal: SqlJournal) -> None:
    journal.begin(planned(), "p")
    for number in range(205):
        journal.record(note(TS1 + number))
    assert list(journal.walk("chat/lab")) == list(journal.entries("chat/lab"))
    assert isinstance(journal.check("chat/lab"), Whole)


def test_a_journal_from_the_future_is_refused(journal: SqlJournal, place: Place) -> None:
    with journal._database.writing() as connection:
        connection.execute(about.update().values(value="99"))
    with pytest.raises(PermanentError, match=r"has schema 99, newer than ours .* Upgrade Crossfade"):
        SqlJournal(place)


def test_an_entry_of_a_migration_nobody_began_is_a_bug_and_stays_one(journal: SqlJournal) -> None:
    with pytest.raises(IntegrityError):
        journal.record(note())


def _append(place: Place, count: int) -> None:
    journal = SqlJournal(place)
    for number in range(count):
        journal.record(note(TS1 + number))


def _raise_soaked(place: Place, count: int) -> None:
    """Read, add one, compare and swap; again when somebody else was quicker."""
    journal = SqlJournal(place)
    done = 0
    while done < count:
        read = journal.state("chat/lab")
        try:
            journal.move(read.model_copy(update={"soaked_s": read.soaked_s + 1}), note(body=f"{read.version}"))
        except StaleWriter:
            continue
        done += 1


def _at_once(work: Callable[..., None], processes: int, *arguments: object) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * processes


def test_four_processes_writing_at_once_lose_no_entry_and_keep_the_chain(journal: SqlJournal, place: Place) -> None:
    journal.begin(planned(), "p")
    _at_once(_append, 4, place, 25)
    found = journal.check("chat/lab")
    assert isinstance(found, Whole), found
    assert found.entries == 101


def test_compare_and_swap_of_two_processes_loses_and_doubles_no_move(journal: SqlJournal, place: Place) -> None:
    journal.begin(planned(), "p")
    _at_once(_raise_soaked, 2, place, 40)
    end = journal.state("chat/lab")
    assert (end.soaked_s, end.version) == (80, 81)
    assert [entry.body for entry in journal.entries("chat/lab", kind="note")] == [str(version) for version in range(1, 81)]


def _open_and_begin(place: Place) -> None:
    try:
        SqlJournal(place).begin(planned(), "p")
    except UserError as error:
        assert "already under way" in str(error)


def test_processes_that_make_and_begin_the_same_at_once_agree_on_one(place: Place) -> None:
    _at_once(_open_and_begin, 4, place)
    assert [entry.kind for entry in SqlJournal(place).entries("chat/lab")] == ["plan"]
