"""From an empty database, or one of an older Crossfade, to the tables of this one; one of a newer Crossfade is refused."""

from __future__ import annotations

from sqlalchemy import Connection, insert, inspect, select, update

from crossfade.errors import PermanentError
from crossfade.store.chain import link
from crossfade.store.database import Database
from crossfade.store.rows import as_entry
from crossfade.store.schema import SCHEMA_VERSION, about, entries, forbid_changes, memories, metadata, migrations


def bring_up_to_date(database: Database) -> bool:
    """Whether anything was written: tables that are as they should be are only looked at, so a journal locked for writing can be read.

    Creating and upgrading are one transaction: a process killed in the middle leaves the journal as it was. Raises PermanentError
    for a schema newer than ours.
    """
    with database.reading() as connection:
        found = _checked(database, connection)
    if found == SCHEMA_VERSION:
        return False
    with database.writing() as connection:
        found = _checked(database, connection)  # another process may have been quicker
        if found == 0:
            metadata.create_all(connection)
            connection.execute(insert(about).values(key="schema", value=str(SCHEMA_VERSION)))
            forbid_changes(connection)
        elif found == 1:
            _from_version_1(connection)
            forbid_changes(connection)
    return True


def _checked(database: Database, connection: Connection) -> int:
    """Version of the tables, 0 where there are none."""
    if not inspect(connection).has_table(about.name):
        return 0
    found = int(connection.execute(select(about.c.value).where(about.c.key == "schema")).scalar() or 0)
    if found > SCHEMA_VERSION:
        raise PermanentError(f"{database.said}: this journal has schema {found}, newer than ours ({SCHEMA_VERSION}). Upgrade Crossfade.")
    return found


def _from_version_1(connection: Connection) -> None:
    """Version 1 had no memories, no chain and one index; its entries are linked in the order of their ids."""
    memories.create(connection)
    for table in (migrations, entries):
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN chain VARCHAR NOT NULL DEFAULT ''")
    connection.exec_driver_sql("DROP INDEX ix_entries_migration")
    for index in entries.indexes:
        index.create(connection)
    newest: dict[str, str] = {}
    for number in connection.execute(select(entries.c.id).order_by(entries.c.id)).scalars().all():
        entry = as_entry(connection.execute(select(entries).where(entries.c.id == number)).one())
        newest[entry.migration] = link(newest.get(entry.migration, ""), entry)
        connection.execute(update(entries).where(entries.c.id == number).values(chain=newest[entry.migration]))
    for name, chain in newest.items():
        connection.execute(update(migrations).where(migrations.c.name == name).values(chain=chain))
    connection.execute(update(about).where(about.c.key == "schema").values(value=str(SCHEMA_VERSION)))
