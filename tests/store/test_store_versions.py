"""A journal of an older Crossfade goes on where it was."""

import sqlite3
from pathlib import Path

import pytest
from journal_words import TS1, note, planned
from sqlalchemy.exc import IntegrityError

from crossfade.rollout.phases import Phase
from crossfade.store.chain import Whole
from crossfade.store.journal import SqlJournal

# as version 0.1.0 made and filled it
VERSION_1 = """
CREATE TABLE about ("key" VARCHAR(40) NOT NULL, value VARCHAR(200) NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE plans (digest VARCHAR(64) NOT NULL, text TEXT NOT NULL, PRIMARY KEY (digest));
CREATE TABLE migrations (name VARCHAR(200) NOT NULL, version INTEGER NOT NULL, changed_s FLOAT NOT NULL, state TEXT NOT NULL,
  PRIMARY KEY (name));
CREATE TABLE entries (id INTEGER NOT NULL, migration VARCHAR(200) NOT NULL, attempt INTEGER NOT NULL, at_s FLOAT NOT NULL,
  kind VARCHAR(20) NOT NULL, subject VARCHAR(200) NOT NULL, body TEXT NOT NULL, PRIMARY KEY (id),
  FOREIGN KEY(migration) REFERENCES migrations (name));
CREATE INDEX ix_entries_migration ON entries (migration);
INSERT INTO about VALUES ('schema', '1');
INSERT INTO plans VALUES ('d1', 'name: chat');
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        for name in ("chat/lab", "chat/other"):
            state = planned(name).model_copy(update={"version": 1})
            connection.execute("INSERT INTO migrations VALUES (?, 1, 1000.0, ?)", (name, state.model_dump_json()))
        for number in range(6):
            name = "chat/other" if number % 3 == 0 else "chat/lab"
            connection.execute("INSERT INTO entries VALUES (NULL, ?, 1, ?, 'note', 'old', '{}')", (name, TS1 + number))
    connection.close()
    return path


def test_a_journal_of_version_1_is_brought_up_to_date_and_goes_on(old: Path) -> None:
    journal = SqlJournal(old)
    assert [entry.at_s for entry in journal.entries("chat/lab")] == [TS1 + number for number in (1, 2, 4, 5)]
    assert journal.plan_text("d1") == "name: chat"
    journal.move(journal.state("chat/lab").with_phase(Phase.ASSESSED, now_s=TS1, because=""), note(), {"judge": "x"})
    again = SqlJournal(old)
    assert (again.state("chat/lab").phase, again.recall("chat/lab", "judge")) == (Phase.ASSESSED, "x")
    for name, count in (("chat/lab", 5), ("chat/other", 2)):
        found = again.check(name)
        assert isinstance(found, Whole), found
        assert found.entries == count


def test_an_upgraded_journal_has_the_tables_indexes_and_triggers_of_a_new_one(old: Path, tmp_path: Path) -> None:
    def shape(path: Path) -> set[tuple[str, str, str]]:
        with sqlite3.connect(path) as connection:
            made = connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
            columns = [
                (table, "column", row[1])
                for kind, table, _ in made
                if kind == "table"
                for row in connection.execute(f"PRAGMA table_info({table})")
            ]
        connection.close()
        return {*made, *columns}

    SqlJournal(old)
    SqlJournal(tmp_path / "new.sqlite")
    assert shape(old) == shape(tmp_path / "new.sqlite")


def test_an_old_process_that_still_runs_after_the_upgrade_is_refused(old: Path) -> None:
    """Its line would stand outside the chain; a guard keeps it in its outbox until it is restarted."""
    SqlJournal(old)
    with sqlite3.connect(old) as connection, pytest.raises(sqlite3.IntegrityError, match="older than the journal: restart it"):
        connection.execute("INSERT INTO entries (migration, attempt, at_s, kind, subject, body) VALUES ('chat/lab', 1, 1, 'note', '', '')")
    connection.close()


def test_an_upgrade_that_fails_leaves_the_journal_as_it_was(old: Path) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute("CREATE TRIGGER in_the_way BEFORE UPDATE ON migrations BEGIN SELECT RAISE(ABORT, 'in the way'); END")
        before = list(connection.iterdump())
        with pytest.raises(IntegrityError, match="in the way"):
            SqlJournal(old)
        assert list(connection.iterdump()) == before
    connection.close()
