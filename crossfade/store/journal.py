"""The journal: every decision with its evidence, append-only, and the newest state of each migration.

SQLite in WAL mode by default. Writing transactions begin IMMEDIATE, so that two writers queue up instead of failing late;
none stays open across anything but SQL. A move is compare-and-swap on the migration's version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_NOTADB
from sqlite3 import Connection as SqliteConnection

import psutil
from sqlalchemy import Connection, Engine, Insert, Update, create_engine, event, insert, inspect, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from crossfade.errors import PermanentError, StaleWriter, UnknownMigration, Unreachable, UserError
from crossfade.ports import Entry
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.schema import SCHEMA_VERSION, about, entries, metadata, migrations, plans

_NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs", "9p", "glusterfs", "ceph"})
_BEYOND_READING = frozenset({SQLITE_NOTADB, SQLITE_CORRUPT})


class SqlJournal:
    """`ports.Journal` on a SQLite file; created on first use.

    Raises UserError where its folder cannot be made, and PermanentError for a file on a network filesystem (its locks cannot be
    trusted), for one that is no database or a broken one, and for a schema newer than ours. Every method raises Unreachable while
    the file is locked for longer than ten seconds or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        _refuse_network_filesystem(path)
        _make_folder(path.parent)
        self._path = path
        self._engine = _sqlite(path)
        # Opening writes nothing where the tables are: a journal that is locked for writing can still be read.
        stored = self._schema() or self._create()
        if stored > SCHEMA_VERSION:
            raise PermanentError(f"{path}: this journal has schema {stored}, newer than ours ({SCHEMA_VERSION}). Upgrade Crossfade.")

    def begin(self, state: MigrationState, plan_text: str) -> MigrationState:
        """Store a plan and a first state, or the next attempt of a migration that ended; raises UserError if one is under way."""
        with self._writing() as connection:
            if not connection.execute(select(plans.c.digest).where(plans.c.digest == state.plan_digest)).scalar():
                connection.execute(insert(plans).values(digest=state.plan_digest, text=plan_text))
            row = connection.execute(select(migrations.c.state).where(migrations.c.name == state.name)).scalar()
            if row is None:
                first = state.model_copy(update={"version": 1})
                connection.execute(_as_new_row(first))
            else:
                before = MigrationState.model_validate_json(row)
                if not before.ended:
                    raise UserError(
                        f"{state.name} is already under way ({before.phase}, attempt {before.attempt}). "
                        f"See 'crossfade status', or end it with 'crossfade rollback {state.name}'."
                    )
                if before.phase is Phase.FINISHED:
                    raise UserError(f"{state.name} has finished. For another migration give the plan another name:.")
                fresh = before.with_new_attempt(state.plan_digest, now_s=state.phase_since_s, because=state.because)
                first = fresh.model_copy(update={"version": before.version + 1})
                connection.execute(_as_changed_row(first, before.version, first.phase_since_s))
            line = Entry(first.name, first.attempt, first.phase_since_s, "plan", state.plan_digest, first.model_dump_json())
            connection.execute(_as_entry_row(line))
        return first

    def state(self, name: str) -> MigrationState:
        """The newest state; raises UnknownMigration naming those there are."""
        with self._reading() as connection:
            row = connection.execute(select(migrations.c.state).where(migrations.c.name == name)).scalar()
            known = connection.execute(select(migrations.c.name)).scalars().all()
        if row is None:
            raise UnknownMigration(f"no migration is called {name!r}. Known: {', '.join(known) or 'none yet'}.")
        return MigrationState.model_validate_json(row)

    def states(self) -> Sequence[MigrationState]:
        """All migrations, newest change first."""
        with self._reading() as connection:
            rows = connection.execute(select(migrations.c.state).order_by(migrations.c.changed_s.desc())).scalars().all()
        return [MigrationState.model_validate_json(row) for row in rows]

    def plan_text(self, digest: str) -> str:
        """The plan as it was when a migration began; raises PermanentError for a digest nobody stored."""
        with self._reading() as connection:
            text = connection.execute(select(plans.c.text).where(plans.c.digest == digest)).scalar()
        if text is None:
            raise PermanentError(f"{self._path}: no plan with digest {digest[:12]} is stored here. Is CROSSFADE_HOME the right one?")
        return str(text)

    def move(self, state: MigrationState, entry: Entry) -> MigrationState:
        """Store `state` and `entry` together; raises StaleWriter when the migration was moved since `state` was read."""
        with self._writing() as connection:
            moved = state.model_copy(update={"version": state.version + 1})
            if connection.execute(_as_changed_row(moved, state.version, entry.at_s)).rowcount != 1:
                raise StaleWriter(
                    f"{state.name} was moved by somebody else since version {state.version} was read. Read it again and decide afresh."
                )
            connection.execute(_as_entry_row(entry))
        return moved

    def record(self, entry: Entry) -> None:
        """Append one entry."""
        with self._writing() as connection:
            connection.execute(_as_entry_row(entry))

    def entries(self, name: str) -> Sequence[Entry]:
        """Everything recorded of a migration, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(select(entries).where(entries.c.migration == name).order_by(entries.c.id)).all()
        return [Entry(row.migration, row.attempt, row.at_s, row.kind, row.subject, row.body, row.id) for row in rows]

    def _schema(self) -> int:
        """Version of the tables, 0 where there are none."""
        with self._reading() as connection:
            if not inspect(connection).has_table(about.name):
                return 0
            return int(connection.execute(select(about.c.value).where(about.c.key == "schema")).scalar() or 0)

    def _create(self) -> int:
        with self._writing() as connection:
            metadata.create_all(connection)
            if not connection.execute(select(about.c.value)).first():
                connection.execute(insert(about).values(key="schema", value=str(SCHEMA_VERSION)))
        self._path.chmod(0o600)
        return self._schema()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._reachable(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        # AUTOCOMMIT: a reader must not take the write lock that every transaction of ours begins with
        with self._reachable(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise Unreachable(f"{self._path}: the journal does not answer: {error.orig}. Check disk room and who holds the file.") from None
        except DatabaseError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in _BEYOND_READING:
                raise  # a constraint of ours was broken: a bug, not the file's fault
            raise PermanentError(
                f"{self._path}: the journal cannot be read: {error.orig}. "
                "Put a backup in its place, or move the file away to begin an empty journal, or set CROSSFADE_HOME to another folder."
            ) from None


def _as_new_row(state: MigrationState) -> Insert:
    return insert(migrations).values(name=state.name, version=state.version, changed_s=state.phase_since_s, state=state.model_dump_json())


def _as_changed_row(state: MigrationState, expect: int, changed_s: float) -> Update:
    found = (migrations.c.name == state.name) & (migrations.c.version == expect)
    return update(migrations).where(found).values(version=state.version, changed_s=changed_s, state=state.model_dump_json())


def _as_entry_row(entry: Entry) -> Insert:
    return insert(entries).values(
        migration=entry.migration, attempt=entry.attempt, at_s=entry.at_s, kind=entry.kind, subject=entry.subject, body=entry.body
    )


def _sqlite(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def _configure(connection: SqliteConnection, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would be DEFERRED; ours below is IMMEDIATE
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

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
                    "Put CROSSFADE_HOME on a local disk, or use PostgreSQL."
                )
            return
