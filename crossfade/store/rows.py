"""Between the journal's words and its rows: what to write, what was read. All of it inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Insert, Row, Select, Update, insert, select, update

from crossfade.ports import Entry, EntryKind
from crossfade.rollout.state import MigrationState
from crossfade.store.chain import link
from crossfade.store.schema import entries, memories, migrations


def as_entry(row: Row[Any]) -> Entry:
    """An entry as it was recorded, with the id the database gave it."""
    return Entry(row.migration, row.attempt, row.at_s, row.kind, row.subject, row.body, row.id)


def new_migration(state: MigrationState) -> Insert:
    """The first row of a migration."""
    return insert(migrations).values(name=state.name, version=state.version, changed_s=state.phase_since_s, state=state.model_dump_json())


def changed_migration(state: MigrationState, expect: int, changed_s: float) -> Update:
    """Compare and swap: finds no row when the version is no longer `expect`."""
    found = (migrations.c.name == state.name) & (migrations.c.version == expect)
    return update(migrations).where(found).values(version=state.version, changed_s=changed_s, state=state.model_dump_json())


def append(connection: Connection, entry: Entry, memory: Mapping[str, str] | None = None) -> None:
    """Add an entry to the end of its migration's chain, and put `memory` in the place of what was remembered under the same keys."""
    own_row = migrations.c.name == entry.migration
    chain = link(connection.execute(select(migrations.c.chain).where(own_row)).scalar() or "", entry)
    line = {"migration": entry.migration, "attempt": entry.attempt, "at_s": entry.at_s, "kind": entry.kind, "subject": entry.subject}
    connection.execute(insert(entries).values(**line, body=entry.body, chain=chain))
    connection.execute(update(migrations).where(own_row).values(chain=chain))
    for key, text in (memory or {}).items():
        known = (memories.c.migration == entry.migration) & (memories.c.key == key)
        if connection.execute(update(memories).where(known).values(text=text)).rowcount == 0:
            connection.execute(insert(memories).values(migration=entry.migration, key=key, text=text))


def chosen(name: str, *, kind: EntryKind | None, subject: str | None, attempt: int | None) -> Select[Any]:
    """The entries of a migration that match all that is given; in no order yet."""
    found = select(entries).where(entries.c.migration == name)
    for column, wanted in ((entries.c.kind, kind), (entries.c.subject, subject), (entries.c.attempt, attempt)):
        if wanted is not None:
            found = found.where(column == wanted)
    return found
