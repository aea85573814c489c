"""Journals for the tests: on SQLite, and the same tests on PostgreSQL where a server can be started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_rig import Postgres, postgres_bin
from sqlalchemy import URL, make_url

from crossfade.store.journal import SqlJournal

Place = Path | URL


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = postgres_bin()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (apt-get install postgresql, or set CROSSFADE_TEST_POSTGRES_BIN)")
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is missing: pip install 'crossfade[postgres]'")
    server = Postgres(programs)
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where nothing is yet."""
    if request.param == "sqlite":
        return tmp_path / "journal.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return make_url(server.place())


@pytest.fixture
def journal(place: Place) -> SqlJournal:
    return SqlJournal(place)
