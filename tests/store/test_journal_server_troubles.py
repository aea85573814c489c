"""A PostgreSQL server that is gone, frozen, locked or lets nobody in: one message a person can act on, never with the password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from journal_words import note, planned
from postgres_rig import PASSWORD, Postgres
from sqlalchemy import create_engine, make_url

from crossfade.errors import PermanentError, Unreachable
from crossfade.home import Home
from crossfade.store import open_journal
from crossfade.store.journal import SqlJournal

WHAT_TO_DO = "Check that the server runs and lets this user in, and what CROSSFADE_JOURNAL says."


@pytest.fixture
def address(postgres: Postgres) -> str:
    return postgres.place()


def _without_password(text: str) -> bool:
    return PASSWORD not in text and quote(PASSWORD, safe="") not in text


def test_the_variable_puts_the_journal_on_the_server(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_JOURNAL", address)
    begun = open_journal(Home(tmp_path)).begin(planned(), "p")
    assert open_journal(Home(tmp_path / "another")).state("chat/lab") == begun
    assert list(tmp_path.iterdir()) == []


def test_the_password_is_in_no_repr(address: str) -> None:
    journal = SqlJournal(make_url(address))
    for part in (journal, journal._database, journal._database._writers):
        assert _without_password(repr(part))
    assert repr(journal).startswith("SqlJournal(postgresql://127.0.0.1:")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist'),
        (("crossfade:", "somebody:"), "password authentication failed"),
        (("%2F", "%2D"), "password authentication failed"),
        (("@127.0.0.1", "@nowhere.invalid"), "the journal does not answer"),
    ],
)
def test_a_server_that_lets_nobody_in_says_why_without_the_password(address: str, wrong: tuple[str, str], said: str) -> None:
    told = address.replace(*wrong)
    with pytest.raises(Unreachable, match=said) as error:
        SqlJournal(make_url(told), wait_s=2)
    assert WHAT_TO_DO in str(error.value)
    assert _without_password(str(error.value))
    assert quote(PASSWORD, safe="").replace("%2F", "%2D") not in str(error.value)


def test_a_table_locked_by_somebody_else_says_so_and_can_still_be_read(address: str) -> None:
    journal = SqlJournal(make_url(address), wait_s=0.5)
    begun = journal.begin(planned(), "p")
    holder = create_engine(make_url(address).set(drivername="postgresql+psycopg"))
    with holder.connect() as other:
        other.exec_driver_sql("LOCK TABLE entries IN SHARE MODE")
        with pytest.raises(Unreachable, match=r"the journal is locked: .* longer than 0\.5 s; nothing was changed.*pg_stat_activity"):
            journal.record(note(), {"judge": "x"})
        assert journal.state("chat/lab") == begun
        other.rollback()
    holder.dispose()
    journal.record(note())
    assert (journal.recall("chat/lab", "judge"), len(journal.entries("chat/lab"))) == ("", 2)


def test_a_writer_that_hangs_in_the_middle_gives_its_turn_back(address: str) -> None:
    slow, journal = SqlJournal(make_url(address), wait_s=0.5), SqlJournal(make_url(address))
    journal.begin(planned(), "p")

    def hang() -> None:
        with slow._database.writing():
            journal.record(note())  # waits until the server has ended the other's idle transaction

    with pytest.raises(Unreachable, match=r"idle for longer than 0\.5 s while writing; the server undid it"):
        hang()
    assert len(journal.entries("chat/lab")) == 2


def test_a_user_without_rights_is_told_which(address: str, postgres: Postgres) -> None:
    SqlJournal(make_url(address)).begin(planned(), "p")
    schema = address.partition("%3D")[2]
    name = f"reader_{schema}"
    for statement in (
        f"CREATE USER {name} PASSWORD 'another'",
        f"GRANT USAGE ON SCHEMA {schema} TO {name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {name}",
    ):
        postgres.execute(address, statement)
    reader = SqlJournal(make_url(address).set(username=name, password="another"))
    assert len(reader.entries("chat/lab")) == 1
    with pytest.raises(PermanentError, match=r"lacks a right: permission denied for table .*owner of the journal's tables"):
        reader.record(note())


def test_a_frozen_server_is_waited_for_no_longer_than_any_other(address: str, postgres: Postgres) -> None:
    """Its kernel acknowledges all that is sent, so that no time-out of the server or of TCP ends the wait."""
    journal = SqlJournal(make_url(address), wait_s=1)
    begun = journal.begin(planned(), "p")
    with postgres.frozen(), pytest.raises(Unreachable, match="the journal does not answer"):
        journal.record(note())
    assert SqlJournal(make_url(address)).state("chat/lab") == begun


def test_a_server_that_was_down_is_used_again_without_a_new_start(address: str, postgres: Postgres) -> None:
    journal = SqlJournal(make_url(address))
    journal.begin(planned(), "p")
    postgres.stop()
    try:
        with pytest.raises(Unreachable, match=r"the journal does not answer: .*Connection refused") as error:
            journal.record(note())
        assert WHAT_TO_DO in str(error.value)
        assert _without_password(str(error.value))
    finally:
        postgres.start()
    journal.record(note())
    assert len(journal.entries("chat/lab")) == 2
