"""The page that `make chaos` writes: a row for each kill, and for each victim when and on what it was measured.

A run of some victims only leaves the rows of all others as they are.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos_kills import Outcome

_ROW = re.compile(r"^\| (?P<victim>[a-zA-Z ]+) \| `(?P<boundary>[^`]+)` \| .* \|$")
_MEASURED = re.compile(r"^\* (?P<victim>[a-zA-Z ]+): (?P<how>\d{4}-\d\d-\d\d, .*)$")

_HEAD = """\
# Chaos

What `make chaos` kills, how, and what is checked after each kill, is in `tests/chaos/matrix.py`: shares sum to 10000 in the route file
and in Envoy's own dump, both agree with the journal, its chain is whole, every decision follows from its evidence, none is there twice,
and no evidence was judged twice.

| killed | while the tick stood at | the migration | requests meanwhile | lost | s |
|---|---|---|---|---|---|
"""

_NOTES = {
    "": """Boundaries are named in `crossfade/failpoints.py`; `:2` is the second time the tick comes by. Where nothing else is said, nothing
        may be lost.""",
    "envoy": """Killing Envoy loses what it had in flight, and what is sent until it is started again: here by this script, after the tick
        has ended.""",
    "worker": """`prefect server` and `worker`: the tick is a run of the ramp's deployment, started by the worker, which dies with all it
        started. The server is started again at once, and the tick goes on without waiting for it. Each row ends with one more run that
        completes, after the guard's reaper (told to wait 2 s instead of a minute) has freed what Prefect took for running. Prefect knows
        nothing of boundaries, so these are one of each kind: nothing written, in a transaction of the journal, the intent, the route
        file, in force, done.""",
    "vllm": """`vllm` is the real one (CPU build, the lab's model), read token by token; killing it loses the answers it had begun, and the
        source answers the others. It stays dead until the guard has rolled back and is started again then, which is most of the row's
        time; so four boundaries are tried: nothing is about to reach it, more users are, more users do, and all is written down.
        Between these the tick asks nothing of its target.""",
}
"""What must be said once a victim is in the table."""


def merged(page: Path, outcomes: Sequence[Outcome], measured_on: Mapping[str, str | int | float], order: Sequence[str]) -> str:
    """The page with these outcomes in the place of what it had of their victims, victims in this order."""
    lines = page.read_text().splitlines() if page.exists() else []
    rows: dict[str, list[str]] = {}
    for line in lines:
        if found := _ROW.match(line):
            rows.setdefault(found["victim"], []).append(line)
    measured = {found["victim"]: line for line in lines if (found := _MEASURED.match(line))}
    for victim in {one.victim for one in outcomes}:
        rows[victim] = [_row(one) for one in outcomes if one.victim == victim]
        measured[victim] = f"* {victim}: {_measured(measured_on)}"
    in_order = [victim for victim in order if victim in rows]
    table = "".join(f"{line}\n" for victim in in_order for line in rows[victim])
    notes = "".join(f"{_item(note)}\n" for victim, note in _NOTES.items() if not victim or victim in rows)
    return f"{_HEAD}{table}\n{notes}\nMeasured, by victim:\n\n" + "".join(
        f"{measured[victim]}\n" for victim in in_order if victim in measured
    )


def _item(note: str) -> str:
    plain = " ".join(note.split())
    return textwrap.fill(plain, 130, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def _row(one: Outcome) -> str:
    lost = f"{one.lost}, after their first byte" if one.cut and one.cut == one.lost else f"{one.lost}"
    return f"| {one.victim} | `{one.boundary}` | {one.ended} | {one.asked:,} | {lost} | {one.seconds:.1f} |"


def _measured(on: Mapping[str, str | int | float]) -> str:
    busy = f"of which others kept {on['cpu_busy_before_pct']} % busy before the start"
    return f"{time.strftime('%Y-%m-%d')}, {on['cpu']}, {on['cores']} cores, {busy}"
