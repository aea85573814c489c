"""The journal: every decision with its evidence, append-only, and the newest state of each migration.

A file of SQLite by default, or a database of PostgreSQL. Writing transactions wait for their turn, so that two writers queue up instead
of failing late; none stays open across anything but SQL. A move is compare-and-swap on the migration's version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import URL, insert, select

from crossfade.errors import PermanentError, StaleWriter, UnknownMigration, UserError
from crossfade.failpoints import reach
from crossfade.ports import Entry, EntryKind
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.chain import Broken, Link, Whole, check
from crossfade.store.database import WAIT_S, Database, postgresql, sqlite
from crossfade.store.rows import RECALLED, STATE, append, as_entry, changed_migration, chosen, new_migration
from crossfade.store.schema import entries, migrations, plans
from crossfade.store.versions import bring_up_to_date

_PAGE = 200
"""Entries read at once where all are wanted; a decision with its evidence is some tens of kilobytes."""


class SqlJournal:
    """`ports.Journal` in a file or at an address; its tables are made on first use, and those of an older Crossfade brought up to date.

    Raises UserError where the file's folder cannot be made, and PermanentError for a file on a network filesystem (its locks cannot be
    trusted), for one that is no database or a broken one, and for a schema newer than ours. Every method raises Unreachable while the
    database is down, is locked for longer than `wait_s` or has no room left, and then has changed nothing.
    """

    def __init__(self, place: Path | URL, *, wait_s: float = WAIT_S) -> None:
        self._database: Database = sqlite(place, wait_s) if isinstance(place, Path) else postgresql(place, wait_s)
        if bring_up_to_date(self._database) and isinstance(place, Path):
            place.chmod(0o600)

    def __repr__(self) -> str:
        return f"SqlJournal({self._database.said})"

    def begin(self, state: MigrationState, plan_text: str) -> MigrationState:
        """Store a plan and a first state, or the next attempt of a migration that ended; raises UserError if one is under way."""
        with self._database.writing() as connection:
            if not connection.execute(select(plans.c.digest).where(plans.c.digest == state.plan_digest)).scalar():
                connection.execute(insert(plans).values(digest=state.plan_digest, text=plan_text))
            row = connection.execute(STATE, {"name": state.name}).scalar()
            if row is None:
                first = state.model_copy(update={"version": 1})
                connection.execute(new_migration(first))
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
                connection.execute(*changed_migration(first, before.version, first.phase_since_s))
            append(connection, Entry(first.name, first.attempt, first.phase_since_s, "plan", state.plan_digest, first.model_dump_json()))
        return first

    def state(self, name: str) -> MigrationState:
        """The newest state; raises UnknownMigration naming those there are."""
        with self._database.reading() as connection:
            row = connection.execute(STATE, {"name": name}).scalar()
            if row is None:
                known = connection.execute(select(migrations.c.name).order_by(migrations.c.name)).scalars().all()
                raise UnknownMigration(f"no migration is called {name!r}. Known: {', '.join(known) or 'none yet'}.")
        return MigrationState.model_validate_json(row)

    def states(self) -> Sequence[MigrationState]:
        """All migrations, newest change first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(migrations.c.state).order_by(migrations.c.changed_s.desc())).scalars().all()
        return [MigrationState.model_validate_json(row) for row in rows]

    def plan_text(self, digest: str) -> str:
        """The plan as it was when a migration began; raises PermanentError for a digest nobody stored."""
        with self._database.reading() as connection:
            text = connection.execute(select(plans.c.text).where(plans.c.digest == digest)).scalar()
        if text is None:
            said = self._database.said
            raise PermanentError(f"{said}: no plan with digest {digest[:12]} is stored here. Is CROSSFADE_HOME the right one?")
        return str(text)

    def move(self, state: MigrationState, entry: Entry, memory: Mapping[str, str] | None = None) -> MigrationState:
        """Store `state`, `entry` and `memory` together; raises StaleWriter when the migration was moved since `state` was read."""
        with self._database.writing() as connection:
            moved = state.model_copy(update={"version": state.version + 1})
            if connection.execute(*changed_migration(moved, state.version, entry.at_s)).rowcount != 1:
                raise StaleWriter(
                    f"{state.name} was moved by somebody else since version {state.version} was read. Read it again and decide afresh."
                )
            append(connection, entry, memory)
            reach("in-move")
        reach("after-move")
        return moved

    def record(self, entry: Entry, memory: Mapping[str, str] | None = None) -> None:
        """Append one entry, and remember texts by their keys, together. What is remembered outlives an attempt."""
        with self._database.writing() as connection:
            append(connection, entry, memory)
            reach("in-record")
        reach("after-record")

    def recall(self, name: str, key: str) -> str:
        """What was last remembered of a migration under `key`; empty when nothing was."""
        with self._database.reading() as connection:
            return str(connection.execute(RECALLED, {"name": name, "key": key}).scalar() or "")

    def entries(
        self, name: str, *, kind: EntryKind | None = None, subject: str | None = None, attempt: int | None = None, newest: int = 0
    ) -> Sequence[Entry]:
        """What was recorded of a migration, oldest first, of one kind, subject or attempt if given; `newest` = n gives the n last."""
        wanted = {"name": name, "kind": kind, "subject": subject, "attempt": attempt, "newest": newest if newest > 0 else None}
        given = {key: value for key, value in wanted.items() if value is not None}
        with self._database.reading() as connection:
            rows = connection.execute(chosen(frozenset(given)), given).all()
        return [as_entry(row) for row in reversed(rows)]

    def walk(self, name: str) -> Iterator[Entry]:
        """All entries of a migration, oldest first, a page in memory at a time: a long ramp's are some hundred megabytes."""
        return (found.entry for found in self._links(name))

    def check(self, name: str) -> Whole | Broken:
        """Whether the entries of a migration are those that were written, as far as their chain can tell."""
        with self._database.reading() as connection:  # first: entries that are added meanwhile come after this link
            newest = str(connection.execute(select(migrations.c.chain).where(migrations.c.name == name)).scalar() or "")
        return check(self._links(name), newest)

    def _links(self, name: str) -> Iterator[Link]:
        last = 0
        while True:
            page = select(entries).where((entries.c.migration == name) & (entries.c.id > last)).order_by(entries.c.id).limit(_PAGE)
            with self._database.reading() as connection:
                rows = connection.execute(page).all()
            yield from (Link(as_entry(row), row.chain) for row in rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1].id
