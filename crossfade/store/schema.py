"""Tables of the journal, and the version of their shape."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

SCHEMA_VERSION = 1

metadata = MetaData()

about = Table("about", metadata, Column("key", String(40), primary_key=True), Column("value", String(200), nullable=False))

plans = Table("plans", metadata, Column("digest", String(64), primary_key=True), Column("text", Text, nullable=False))

migrations = Table(
    "migrations",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_s", Float, nullable=False),
    Column("state", Text, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("migration", String(200), ForeignKey("migrations.name"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("body", Text, nullable=False),
)
