"""Which journal is meant: the file below CROSSFADE_HOME, or what CROSSFADE_JOURNAL says. The one place that reads it."""

from __future__ import annotations

import os

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from crossfade.errors import UserError
from crossfade.home import Home
from crossfade.store.database import WAIT_S
from crossfade.store.journal import SqlJournal

VARIABLE = "CROSSFADE_JOURNAL"

_FORM = (
    f"Write {VARIABLE}=postgresql://user:password@host:5432/database, with @ : / % of the password as %40 %3A %2F %25, "
    "or leave the password to ~/.pgpass. Unset it to use the SQLite file in CROSSFADE_HOME."
)


def open_journal(home: Home, *, wait_s: float = WAIT_S) -> SqlJournal:
    """The journal of `home`, or the shared one at the address in CROSSFADE_JOURNAL; one that is not there yet is made.

    `wait_s` is the longest wait for a lock or an answer; who must act without the journal if need be says a short one.

    Raises UserError for an address that cannot be understood, ToolMissing without PostgreSQL's driver, and what SqlJournal raises.
    """
    told = os.environ.get(VARIABLE, "").strip()
    return SqlJournal(_address(told) if told else home.journal, wait_s=wait_s)


def _address(told: str) -> URL:
    """Parsed, with the driver's name; what was told is in no message, for it may hold a password."""
    try:
        url = make_url(told)
    except (ArgumentError, ValueError):
        raise UserError(f"{VARIABLE} is no address of a database. {_FORM}") from None
    if url.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise UserError(f"{VARIABLE} begins with {url.drivername}://, and a journal can be on PostgreSQL only. {_FORM}")
    if not url.database:
        raise UserError(f"{VARIABLE} names no database. {_FORM}")
    if "@" in (url.host or ""):
        raise UserError(f"{VARIABLE} has an @ too many. {_FORM}")
    return url.set(drivername="postgresql+psycopg")
