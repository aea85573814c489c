"""The chain: each entry's link is the digest of the link before it and of the entry itself, one chain a migration.

It shows that a line was edited, removed, added or reordered by something that did not know of it: a damaged disk, a restored backup
that lacks the end, a hand in the database. It is no signature. Who may write the database and knows this file can compute all links
anew; against that, keep the newest link of `crossfade journal verify` or an export somewhere else, and compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from crossfade.ports import Entry


@dataclass(frozen=True)
class Link:
    """An entry with the link stored beside it."""

    entry: Entry
    chain: str


@dataclass(frozen=True)
class Whole:
    """Every link follows from the one before it, up to the one in the migration's row."""

    entries: int
    newest: str


@dataclass(frozen=True)
class Broken:
    """The first place where the chain does not hold, for a person."""

    why: str


def link(before: str, entry: Entry) -> str:
    """The link of `entry` after `before`: SHA-256 as hex. The id is left out, because the database gives it later."""
    said = json.dumps([before, entry.migration, entry.attempt, entry.at_s, entry.kind, entry.subject, entry.body])
    return hashlib.sha256(said.encode()).hexdigest()


def check(links: Iterable[Link], newest: str) -> Whole | Broken:
    """Whether the entries of one migration, oldest first, are those that were written.

    `newest` is the link that stood in its row before the entries were read; it must be among theirs, not at the end: more may have
    been added since.
    """
    before, last, count, complete = "", 0, 0, newest == ""
    for found in links:
        if found.chain != link(before, found.entry):
            entry = found.entry
            return Broken(
                f"entry {entry.id} ({entry.kind} {entry.subject}) does not follow from "
                f"{f'entry {last}' if last else 'the beginning'}: it was changed, or a line before it was changed or removed"
            )
        before, last, count = found.chain, found.entry.id, count + 1
        complete = complete or before == newest
    if not complete:
        return Broken(f"the newest entries are missing: the chain ends at entry {last}, but the migration's row knows a later one")
    return Whole(count, before)
