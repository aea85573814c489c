"""`crossfade journal ...`: read what was decided and why, take it elsewhere, and judge all of it again."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.errors import GateFailed, UserError
from crossfade.home import Home
from crossfade.lab.which import use_lab_if_it_is_up
from crossfade.ports import Entry, EntryKind
from crossfade.ramp.rejudge import rejudge
from crossfade.store import open_journal
from crossfade.store.chain import Broken
from crossfade.store.journal import SqlJournal
from crossfade.store.masking import Masking

journal_app = typer.Typer(no_args_is_help=True, help="Read the journal, take it elsewhere, judge all of it again.")
console = Console()

Name = Annotated[str, typer.Argument(help="plan/model, as 'crossfade status' lists it.", metavar="NAME")]
AnyName = Annotated[str, typer.Argument(help="plan/model; default: all.", metavar="[NAME]")]


@journal_app.command("show")
def show(
    name: Name,
    attempt: Annotated[int, typer.Option(min=0, help="Only this attempt; 0: all.")] = 0,
    kind: Annotated[str, typer.Option(help=f"Only one of: {', '.join(get_args(EntryKind))}.")] = "",
    last: Annotated[int, typer.Option(min=0, help="Only so many, the newest; 0: all.")] = 0,
) -> None:
    """What was recorded, oldest first: a table in a terminal, else one line an entry with tabs between its parts."""
    journal = _journal()
    journal.state(name)
    found = journal.entries(name, kind=_kind(kind), attempt=attempt or None, newest=last)
    if not found:
        sys.stderr.write(f"no entry of {name} is like that. Without options all are shown.\n")
        return
    masking = Masking.of(os.environ)
    if not console.is_terminal:
        for entry in found:
            sys.stdout.write("\t".join(_cells(entry, masking)) + "\n")
        return
    table = Table("id", "when (UTC)", "attempt", "kind", "subject", "what")
    for entry in found:
        table.add_row(*(Text(cell) for cell in _cells(entry, masking)))
    console.print(table)


@journal_app.command("export")
def export(
    name: AnyName = "",
    every: Annotated[bool, typer.Option("--all", help="All migrations.")] = False,
    output: Annotated[Path | None, typer.Option(help="A new file, for its owner alone; default: standard output.")] = None,
) -> None:
    """JSON lines: each migration with its state and newest link, its plans, and every entry. Secrets are masked."""
    if bool(name) == every:
        raise UserError("Name one migration, or say --all.")
    journal = _journal()
    names = _names(journal, name)
    if output is None:
        _write(journal, names, sys.stdout)
        return
    partial = output.with_name(f"{output.name}.partial")  # so that a file of that name is always a whole export
    try:
        with partial.open("w", encoding="utf-8") as file:
            partial.chmod(0o600)
            count = _write(journal, names, file)
        output.hardlink_to(partial)
    except FileExistsError:
        raise UserError(f"{output} exists already. Name another file, or remove it first.") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}. Name a file in a folder of yours with room.") from None
    finally:
        with suppress(OSError):
            partial.unlink()
    _say(f"{count} lines in {output}")


@journal_app.command("verify")
def verify(name: AnyName = "") -> None:
    """Judge every stored decision and breach again, and check that no line was changed or removed. Exit code 1 on a difference."""
    journal = _journal()
    wrong, names = 0, _names(journal, name)
    if not names:
        _say("no migrations yet. Begin with: crossfade migrate PLAN")
    for one in names:
        lines = _differences(journal, one)
        wrong += len(lines)
        for line in lines:
            _say(f"{one}: {line}")
    if wrong:
        raise GateFailed(
            f"{wrong} {'difference' if wrong == 1 else 'differences'} in the journal. Keep an export of it as it is now, "
            "and compare with a backup before you rest a decision on it."
        )


def _differences(journal: SqlJournal, name: str) -> list[str]:
    chain = journal.check(name)
    recorded = list(journal.walk(name))
    found = [f"entry {difference.entry}: {difference.what}" for difference in rejudge(recorded)]
    for entry in recorded:
        if entry.kind == "plan" and hashlib.sha256(journal.plan_text(entry.subject).encode()).hexdigest() != entry.subject:
            found.append(f"entry {entry.id}: the plan stored under this digest is another one")
    if isinstance(chain, Broken):
        return [f"chain: {chain.why}", *found]
    if not found:
        kinds = Counter(entry.kind for entry in recorded)
        _say(
            f"{name}: {kinds['decision']} decisions and {kinds['breach']} breaches judged again, all the same; "
            f"{chain.entries} entries in an unbroken chain, newest link {chain.newest}"
        )
    return found


def _write(journal: SqlJournal, names: list[str], file: TextIO) -> int:
    masking, count = Masking.of(os.environ), 0
    for name in names:
        for line in _lines(journal, name):
            file.write(json.dumps(masking.json(line), ensure_ascii=False) + "\n")
            count += 1
    return count


def _lines(journal: SqlJournal, name: str) -> Iterator[dict[str, Any]]:
    state, chain = journal.state(name), journal.check(name)
    yield {
        "line": "migration",
        "name": name,
        "state": json.loads(state.model_dump_json()),
        "chain": f"broken: {chain.why}" if isinstance(chain, Broken) else chain.newest,
    }
    for entry in journal.walk(name):
        if entry.kind == "plan":
            yield {"line": "plan", "digest": entry.subject, "text": journal.plan_text(entry.subject)}
        yield {
            "line": "entry",
            "id": entry.id,
            "migration": entry.migration,
            "attempt": entry.attempt,
            "at_s": entry.at_s,
            "at": _when(entry.at_s),
            "kind": entry.kind,
            "subject": entry.subject,
            "body": _parsed(entry.body),
        }


def _cells(entry: Entry, masking: Masking) -> tuple[str, ...]:
    return tuple(
        _printable(masking.text(cell))
        for cell in (str(entry.id), _when(entry.at_s), str(entry.attempt), entry.kind, entry.subject, _said(entry))
    )


def _said(entry: Entry) -> str:
    """What an entry says, in a line: its verdict or reason, else all of it, shortened."""
    body = _parsed(entry.body)
    if isinstance(body, dict):
        verdict = body.get("verdict")
        if isinstance(verdict, dict):
            return f"{verdict.get('decision')}: {verdict.get('reason')}"
        for part in ("reason", "why", "because"):
            if body.get(part):
                return str(body[part])
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _printable(text: str) -> str:
    """On one line, without the control characters of a terminal that an engine's log may hold."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _parsed(body: str) -> Any:  # noqa: ANN401 - JSON of any shape
    try:
        return json.loads(body)
    except ValueError:
        return body


def _when(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")


def _kind(told: str) -> EntryKind | None:
    for kind in get_args(EntryKind):
        if kind == told:
            return kind  # type: ignore[no-any-return]
    if told:
        raise UserError(f"--kind {told}: no entry is of that kind. Use one of: {', '.join(get_args(EntryKind))}.")
    return None


def _names(journal: SqlJournal, name: str) -> list[str]:
    return [journal.state(name).name] if name else sorted(state.name for state in journal.states())


def _journal() -> SqlJournal:
    use_lab_if_it_is_up()
    return open_journal(Home.from_environment())


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
