"""What a database's failure means to a person: what happened, where, what to do next."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError

from crossfade.errors import CrossfadeError, PermanentError, Unreachable

_ANOTHER = "Put a backup in its place, or move the file away to begin an empty journal, or set CROSSFADE_HOME to another folder."

_SQLITE: dict[int, tuple[type[CrossfadeError], str]] = {
    sqlite3.SQLITE_NOTADB: (PermanentError, f"the journal cannot be read: {{why}}. {_ANOTHER}"),
    sqlite3.SQLITE_CORRUPT: (PermanentError, f"the journal cannot be read: {{why}}. {_ANOTHER}"),
    sqlite3.SQLITE_READONLY: (
        PermanentError,
        "the journal cannot be written: {why}. Give this user the right to write the file and its folder, or set CROSSFADE_HOME.",
    ),
    sqlite3.SQLITE_PERM: (PermanentError, "the journal cannot be opened: {why}. Give this user the right to read and write it."),
    sqlite3.SQLITE_CANTOPEN: (
        PermanentError,
        "the journal cannot be opened: {why}. Give this user the right to read and write it and its folder, or set CROSSFADE_HOME.",
    ),
    sqlite3.SQLITE_FULL: (Unreachable, "the disk is full; nothing was written to it. Make room there, then try again."),
    sqlite3.SQLITE_IOERR: (
        Unreachable,
        "the journal could not be written or read: {why}; nothing was changed in it. "
        "Look for a full, limited or failing disk, then try again.",
    ),
    sqlite3.SQLITE_BUSY: (
        Unreachable,
        "the journal is locked: somebody has been writing for longer than {wait_s:g} s; nothing was changed in it. "
        "See who holds it with 'fuser -v' on this file, end that, then try again.",
    ),
}

_POSTGRESQL: dict[str, tuple[type[CrossfadeError], str]] = {
    "25006": (PermanentError, "the journal cannot be written: {why}. Point CROSSFADE_JOURNAL at the primary server."),
    "25P03": (Unreachable, "this process was idle for longer than {wait_s:g} s while writing; the server undid it. Try again."),
    "42501": (PermanentError, "the journal's user lacks a right: {why}. Make it the owner of the journal's tables and their schema."),
    "53100": (Unreachable, "the server's disk is full; nothing was written to it. Make room there, then try again."),
    "53300": (Unreachable, "the server has no connection left: {why}. Raise its max_connections or end idle ones, then try again."),
    "55P03": (
        Unreachable,
        "the journal is locked: another transaction has held it for longer than {wait_s:g} s; nothing was changed in it. "
        "Find it in pg_stat_activity, end that, then try again.",
    ),
    "57014": (
        Unreachable,
        "the server took longer than {wait_s:g} s; nothing was changed in it. See what keeps it busy in pg_stat_activity, then try again.",
    ),
}

_NO_ANSWER = "the journal does not answer: {why}. Check that the server runs and lets this user in, and what CROSSFADE_JOURNAL says."
_NO_ANSWER_FILE = "the journal does not answer: {why}. Check disk room and who holds the file."


def meaning(error: DBAPIError, where: str, wait_s: float) -> CrossfadeError | None:
    """The error to raise instead, or None for one that is a bug of ours, such as a broken constraint."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        kind, said = _SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, (Unreachable, _NO_ANSWER_FILE))
        known = kind is not Unreachable or isinstance(error, OperationalError)
    else:
        state = getattr(cause, "sqlstate", None) or ""
        kind, said = _POSTGRESQL.get(state, (Unreachable, _NO_ANSWER))
        known = state in _POSTGRESQL or isinstance(error, OperationalError)
    if not known:
        return None
    why = "; ".join(line.strip() for line in str(cause).splitlines() if line.strip()).rstrip(".")
    return kind(f"{where}: {said.format(why=why, wait_s=wait_s)}")
