"""A database behind the journal: how to connect, one writer at a time, and what its failures mean to a person.

SQLite and PostgreSQL differ here and nowhere else. Both let writers queue up for ten seconds instead of failing late: SQLite by
BEGIN IMMEDIATE, PostgreSQL by one advisory lock. So entries get their ids in the order in which they are committed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any

import psutil
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolEmpty

from crossfade.errors import PermanentError, ToolMissing, Unreachable, UserError
from crossfade.store.troubles import meaning

WAIT_S = 10.0
"""Longest wait for a lock, a statement or a connection, unless the caller says otherwise."""

_WRITERS = 0x43726F7373666164
"""Key of PostgreSQL's advisory lock that writers of a journal take in turns."""

_LATER_S = 2.0
"""How much later than the server we end a wait ourselves: its own words say more."""

_NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs", "9p", "glusterfs", "ceph"})


class Database:
    """One database. `said` is how messages name it: a path, or an address without its password."""

    def __init__(self, said: str, *, writers: Engine, readers: Engine, turn: str, wait_s: float) -> None:
        self.said, self._wait_s = said, wait_s
        self._writers, self._readers, self._turn = writers, readers, turn

    def __repr__(self) -> str:
        return f"Database({self.said})"

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is the only one writing; committed at the end, undone by any exception."""
        with self._translated(), self._writers.begin() as connection:
            connection.exec_driver_sql(self._turn)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single reads: they wait for no writer, and none of them keeps a transaction open."""
        with self._translated(), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolEmpty:
            raise Unreachable(f"{self.said}: all connections to the journal were busy for {self._wait_s:g} s. Try again.") from None
        except DBAPIError as error:
            told = meaning(error, self.said, self._wait_s)
            if told is None:
                raise  # a constraint of ours was broken: a bug, not the database's fault
            raise told from None


def sqlite(path: Path, wait_s: float = WAIT_S) -> Database:
    """The database in a file, made on first use, in WAL mode.

    Raises UserError where its folder cannot be made, PermanentError on a network filesystem, whose locks cannot be trusted.
    """
    _refuse_network_filesystem(path)
    _make_folder(path.parent)
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": wait_s})

    @event.listens_for(engine, "connect")
    def _configure(connection: SqliteConnection, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would be DEFERRED; a writer's is IMMEDIATE, a reader needs none
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return Database(str(path), writers=engine, readers=engine, turn="BEGIN IMMEDIATE", wait_s=wait_s)


def postgresql(url: URL, wait_s: float = WAIT_S) -> Database:
    """The database behind an address; nothing is connected yet. Raises ToolMissing without the driver."""
    engine = _postgresql_engine(url, wait_s, os.getpid())
    readers = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Database(address(url), writers=engine, readers=readers, turn=f"SELECT pg_advisory_xact_lock({_WRITERS})", wait_s=wait_s)


def address(url: URL) -> str:
    """Server and database alone: user, password and options may hold secrets."""
    host = url.host or url.query.get("host") or "localhost"
    return f"postgresql://{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


@lru_cache
def _postgresql_engine(url: URL, wait_s: float, _pid: int) -> Engine:
    """One pool an address and process, however many journals are opened: a server has few connections to give."""
    try:
        from crossfade.store.patience import PatientConnection
    except ModuleNotFoundError as error:
        raise ToolMissing(f"a journal on PostgreSQL needs {error.name}: pip install 'crossfade[postgres]'") from None
    limits = {"connect_timeout": max(2, round(wait_s)), "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",
        pool_size=2,
        max_overflow=3,
        pool_timeout=wait_s,
        pool_pre_ping=True,  # a server that was restarted since the last tick is no error
        # prepared statements would not survive a pooler such as PgBouncer
        connect_args={**limits, "tcp_user_timeout": round(1000 * wait_s), "prepare_threshold": None, "application_name": "crossfade"},
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: tuple[str, ...], named: dict[str, Any]) -> PatientConnection:
        made = PatientConnection.connect(*arguments, **named)
        made.longest_s = wait_s + _LATER_S
        return made

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        with closing(connection.cursor()) as cursor:
            for name, limit_s in (
                ("lock_timeout", wait_s),
                ("statement_timeout", wait_s + _LATER_S / 2),  # later, for who waits for a lock should be told so
                ("idle_in_transaction_session_timeout", wait_s),  # a frozen writer gives its turn back
            ):
                cursor.execute(f"SET SESSION {name} = {round(1000 * limit_s)}")
        connection.commit()

    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot make this folder for the journal: {error.strerror}. Set CROSSFADE_HOME to a folder you may write in."
        ) from None


def _refuse_network_filesystem(path: Path) -> None:
    folder = path.resolve().parent
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint), reverse=True)
    for mount in mounts:
        if folder.is_relative_to(mount.mountpoint):
            if mount.fstype.lower() in _NETWORK_FILESYSTEMS:
                raise PermanentError(
                    f"{path}: the journal would lie on {mount.fstype}, where SQLite's locks cannot be trusted. "
                    "Put CROSSFADE_HOME on a local disk, or the journal on PostgreSQL (CROSSFADE_JOURNAL=postgresql://user@host/database)."
                )
            return
