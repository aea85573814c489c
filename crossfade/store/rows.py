"""Between the journal's words and its rows: what to write, what was read. All of it inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, Row, Select, Update, bindparam, insert, select, update

from crossfade.ports import Entry
from crossfade.rollout.state import MigrationState
from crossfade.store.chain import link
from crossfade.store.schema import entries, memories, migrations

STATE = select(migrations.c.state).where(migrations.c.name == bindparam("name"))
"""The newest state of the migration `name`."""

RECALLED = select(memories.c.text).where((memories.c.migration == bindparam("name")) & (memories.c.key == bindparam("key")))
"""What was remembered of the migration `name` under `key`."""

# Statements are built once: building one takes longer than SQLite takes to answer it.
_CHANGED = (
    update(migrations)
    .where((migrations.c.name == bindparam("of")) & (migrations.c.version == bindparam("expect")))
    .values(version=bindparam("version"), changed_s=bindparam("changed_s"), state=bindparam("state"))
)
_CHAIN = select(migrations.c.chain).where(migrations.c.name == bindparam("of"))
_CHAINED = update(migrations).where(migrations.c.name == bindparam("of")).values(chain=bindparam("chain"))
_APPENDED = insert(entries)
_REMEMBERED = (
    update(memories)
    .where((memories.c.migration == bindparam("of")) & (memories.c.key == bindparam("under")))
    .values(text=bindparam("text"))
)


def as_entry(row: Row[Any]) -> Entry:
    """An entry as it was recorded, with the id the database gave it."""
    return Entry(row.migration, row.attempt, row.at_s, row.kind, row.subject, row.body, row.id)


def new_migration(state: MigrationState) -> Insert:
    """The first row of a migration."""
    return insert(migrations).values(name=state.name, version=state.version, changed_s=state.phase_since_s, state=state.model_dump_json())


def changed_migration(state: MigrationState, expect: int, changed_s: float) -> tuple[Update, dict[str, str | int | float]]:
    """Compare and swap, with its parameters: finds no row when the version is no longer `expect`."""
    new: dict[str, str | int | float] = {"version": state.version, "changed_s": changed_s, "state": state.model_dump_json()}
    return _CHANGED, {"of": state.name, "expect": expect, **new}


def append(connection: Connection, entry: Entry, memory: Mapping[str, str] | None = None) -> None:
    """Add an entry to the end of its migration's chain, and put `memory` in the place of what was remembered under the same keys."""
    own_row = {"of": entry.migration}
    chain = link(connection.execute(_CHAIN, own_row).scalar() or "", entry)
    line = {"migration": entry.migration, "attempt": entry.attempt, "at_s": entry.at_s, "kind": entry.kind, "subject": entry.subject}
    connection.execute(_APPENDED, {**line, "body": entry.body, "chain": chain})
    connection.execute(_CHAINED, {**own_row, "chain": chain})
    for key, text in (memory or {}).items():
        if connection.execute(_REMEMBERED, {**own_row, "under": key, "text": text}).rowcount == 0:
            connection.execute(insert(memories).values(migration=entry.migration, key=key, text=text))


@lru_cache
def chosen(given: frozenset[str]) -> Select[Any]:
    """Entries of the migration `name`, newest first: those that match what is given of `kind`, `subject`, `attempt`; at most `newest`."""
    found = select(entries).where(entries.c.migration == bindparam("name")).order_by(entries.c.id.desc())
    for column in (entries.c.kind, entries.c.subject, entries.c.attempt):
        if column.name in given:
            found = found.where(column == bindparam(column.name))
    return found.limit(bindparam("newest")) if "newest" in given else found
