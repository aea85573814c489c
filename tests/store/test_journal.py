import multiprocessing
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from crossfade.errors import PermanentError, StaleWriter, UnknownMigration, UserError
from crossfade.home import Home
from crossfade.ports import Entry
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.store.schema import about

TS0 = 1_000.0  # when the migration began
TS1 = 1_060.0  # one minute later


def planned(name: str = "chat/lab") -> MigrationState:
    return MigrationState(name=name, plan_digest="d1", phase_since_s=TS0, share_since_s=TS0)


def note(at_s: float = TS1) -> Entry:
    return Entry("chat/lab", 1, at_s, "note", "test", "{}")


@pytest.fixture
def journal(tmp_path: Path) -> SqlJournal:
    return SqlJournal(tmp_path / "journal.sqlite")


def test_what_was_begun_is_read_back_with_its_plan(journal: SqlJournal) -> None:
    begun = journal.begin(planned(), "name: chat\n")
    assert journal.state("chat/lab") == begun
    assert journal.plan_text("d1") == "name: chat\n"
    assert [entry.kind for entry in journal.entries("chat/lab")] == ["plan"]


def test_the_second_of_two_writers_is_stale_and_changes_nothing(journal: SqlJournal) -> None:
    read = journal.begin(planned(), "p")
    first = journal.move(read.with_phase(Phase.ASSESSED, now_s=TS1, because="first"), note())
    with pytest.raises(StaleWriter):
        journal.move(read.with_phase(Phase.FAILED, now_s=TS1, because="second"), note())
    assert journal.state("chat/lab") == first
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


def test_a_journal_from_the_future_is_refused(tmp_path: Path) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite")
    with journal._writing() as connection:
        connection.execute(about.update().values(value="99"))
    with pytest.raises(PermanentError, match="newer than ours"):
        SqlJournal(tmp_path / "journal.sqlite")


def test_a_home_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot make this folder.*CROSSFADE_HOME"):
        SqlJournal(tmp_path / "file" / "home" / "journal.sqlite")


def test_a_home_of_nobody_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_HOME", "~nobody-of-that-name/crossfade")
    with pytest.raises(UserError, match="CROSSFADE_HOME=~nobody-of-that-name"):
        Home.from_environment()


def test_an_empty_home_means_the_default_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CROSSFADE_HOME", "")
    assert Home.from_environment().root == tmp_path / ".crossfade"


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("notes of somebody, " * 100)
    with pytest.raises(PermanentError, match=r"journal\.sqlite: the journal cannot be read: file is not a database.*backup"):
        SqlJournal(path)
    assert path.read_text() == "notes of somebody, " * 100


def test_a_damaged_journal_is_refused(journal: SqlJournal, tmp_path: Path) -> None:
    journal.begin(planned(), "p")
    for file in tmp_path.glob("journal.sqlite*"):
        file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(PermanentError, match="the journal cannot be read"):
        SqlJournal(tmp_path / "journal.sqlite")


def test_an_entry_of_a_migration_nobody_began_is_a_bug_and_stays_one(journal: SqlJournal) -> None:
    with pytest.raises(IntegrityError):
        journal.record(note())


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    SqlJournal(tmp_path / "journal.sqlite")
    assert (tmp_path / "journal.sqlite").stat().st_mode & 0o777 == 0o600


def _append(path: Path, count: int) -> None:
    journal = SqlJournal(path)
    for number in range(count):
        journal.record(note(TS1 + number))


def test_four_processes_writing_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    SqlJournal(path).begin(planned(), "p")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(path, 25)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(SqlJournal(path).entries("chat/lab")) == 101
