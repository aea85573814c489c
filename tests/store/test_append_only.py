"""Nobody changes what was written: the database refuses, and the chain shows where somebody got round it."""

from pathlib import Path

import pytest
from journal_words import TS1, note, planned
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from crossfade.store.chain import Broken, Whole
from crossfade.store.journal import SqlJournal


@pytest.fixture
def written(journal: SqlJournal) -> SqlJournal:
    journal.begin(planned(), "p")
    for number in range(4):
        journal.record(note(TS1 + number, body=f'{{"number": {number}}}'))
    return journal


def _run(journal: SqlJournal, *statements: str) -> None:
    with journal._database.writing() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def _without_triggers(journal: SqlJournal, *statements: str) -> None:
    """As an administrator who means it."""
    with journal._database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        else:
            found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
            for name in found:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.exec_driver_sql(statement)


CHANGES = [
    "UPDATE entries SET body = 'x'",
    "UPDATE entries SET chain = 'x' WHERE id = 2",
    "DELETE FROM entries",
    "DELETE FROM entries WHERE id = 5",
    "UPDATE plans SET text = 'x'",
    "DELETE FROM plans",
    "DELETE FROM migrations",
]
SQLITE_ONLY = [
    "INSERT OR REPLACE INTO entries SELECT id, migration, attempt, at_s, kind, subject, 'x', chain FROM entries",
    "REPLACE INTO plans SELECT digest, 'x' FROM plans",
    "INSERT INTO entries (migration, attempt, at_s, kind, subject, body) VALUES ('chat/lab', 1, 1, 'note', 'unchained', '')",
]
POSTGRESQL_ONLY = ["TRUNCATE entries", "TRUNCATE entries, memories, plans, migrations"]


def test_the_database_itself_refuses_to_change_or_remove_a_line(written: SqlJournal, place: Path | URL) -> None:
    before = written.entries("chat/lab")
    for change in (*CHANGES, *(SQLITE_ONLY if isinstance(place, Path) else POSTGRESQL_ONLY)):
        with pytest.raises(DBAPIError, match=r"append-only|never changed|older than the journal"):
            _run(written, change)
        assert written.entries("chat/lab") == before, change
        assert written.plan_text("d1") == "p", change


def test_a_chain_nobody_touched_is_whole(written: SqlJournal) -> None:
    found = written.check("chat/lab")
    assert isinstance(found, Whole)
    assert found.entries == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE entries SET body = '{\"number\": 9}' WHERE id = 3", "entry 3 (note test) does not follow from entry 2"),
        ("UPDATE entries SET at_s = at_s + 1 WHERE id = 4", "entry 4 (note test) does not follow from entry 3"),
        ("DELETE FROM entries WHERE id = 3", "entry 4 (note test) does not follow from entry 2"),
        ("DELETE FROM entries WHERE id = 1", "entry 2 (note test) does not follow from the beginning"),
        ("DELETE FROM entries WHERE id >= 4", "the newest entries are missing: the chain ends at entry 3"),
        ("DELETE FROM entries", "the newest entries are missing"),
    ],
)
def test_the_chain_names_the_place_where_a_line_was_changed_or_removed(written: SqlJournal, change: str, said: str) -> None:
    _without_triggers(written, change)
    found = written.check("chat/lab")
    assert isinstance(found, Broken)
    assert said in found.why
