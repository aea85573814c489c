"""Tables of the journal, and the version of their shape.

Entries and plans are append-only, and the database itself says so: triggers abort every UPDATE and DELETE, whoever sends it. Each entry
also carries a link of a chain (see `chain`), whose newest link stands in its migration's row.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

SCHEMA_VERSION = 2

metadata = MetaData()

about = Table("about", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

plans = Table("plans", metadata, Column("digest", String, primary_key=True), Column("text", Text, nullable=False))

migrations = Table(
    "migrations",
    metadata,
    Column("name", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_s", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("chain", String, nullable=False, server_default=""),
)

memories = Table(
    "memories",
    metadata,
    Column("migration", String, ForeignKey("migrations.name"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("text", Text, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("migration", String, ForeignKey("migrations.name"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("chain", String, nullable=False, server_default=""),
    Index("entries_in_order", "migration", "id"),
    # all that a read may filter by, so that large bodies of other entries are never touched
    Index("entries_by_kind", "migration", "kind", "id", "subject", "attempt"),
)

_SQLITE = (
    "CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    "CREATE TRIGGER entries_remain BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    # INSERT OR REPLACE deletes without asking the trigger above
    "CREATE TRIGGER entries_are_new BEFORE INSERT ON entries WHEN EXISTS (SELECT 1 FROM entries WHERE id = NEW.id) "
    "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    # a process that began before the upgrade of this file would write lines outside the chain
    "CREATE TRIGGER entries_are_chained BEFORE INSERT ON entries WHEN NEW.chain = '' "
    "BEGIN SELECT RAISE(ABORT, 'this process is older than the journal: restart it'); END",
    "CREATE TRIGGER plans_stay BEFORE UPDATE ON plans BEGIN SELECT RAISE(ABORT, 'plans are never changed'); END",
    "CREATE TRIGGER plans_remain BEFORE DELETE ON plans BEGIN SELECT RAISE(ABORT, 'plans are never changed'); END",
    "CREATE TRIGGER plans_are_new BEFORE INSERT ON plans WHEN EXISTS (SELECT 1 FROM plans WHERE digest = NEW.digest) "
    "BEGIN SELECT RAISE(ABORT, 'plans are never changed'); END",
    "CREATE TRIGGER migrations_remain BEFORE DELETE ON migrations BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
)

_POSTGRESQL = (
    "CREATE FUNCTION crossfade_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the journal is append-only'; END $$",
    *(
        f"CREATE TRIGGER {table}_stay BEFORE {verbs} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION crossfade_append_only()"
        for table, verbs in (
            ("entries", "UPDATE OR DELETE OR TRUNCATE"),
            ("plans", "UPDATE OR DELETE OR TRUNCATE"),
            ("migrations", "DELETE OR TRUNCATE"),
        )
    ),
)


def forbid_changes(connection: Connection) -> None:
    """Create the triggers that keep entries and plans as they were written; once, right after the tables."""
    for statement in _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE:
        connection.exec_driver_sql(statement)
