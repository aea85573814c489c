"""`crossfade lab ...`: what the lab can measure on this machine beside its demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossfade.errors import UserError
from crossfade.home import CHECKOUT
from crossfade.lab.quantize_table import DEADLINE_S, WAYS, as_markdown, measure, ways_of
from crossfade.lab.which import this_lab
from crossfade.plan.units import format_seconds, parse_seconds

lab_app = typer.Typer(no_args_is_help=True, help="Measure with the lab's own model and engines.")
console = Console()

TABLE = CHECKOUT / "docs" / "quantize-table.md"


@lab_app.callback()
def _several_commands() -> None:
    """So that the one command there is keeps its name."""


@lab_app.command("quantize-table")
def quantize_table(
    out: Annotated[Path | None, typer.Option("--out", help="Where the table goes; docs/ when left out.", metavar="FILE")] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="Folder for what is made; the lab's own when left out.")] = None,
    schemes: Annotated[str, typer.Option("--schemes", help="Only these, like fp8,awq; without --out the table is then only printed.")] = "",
    within: Annotated[str, typer.Option("--within", help="How long one line may take before it is stopped.")] = format_seconds(DEADLINE_S),
) -> None:
    """Quantize the lab model in every way, load each result in vLLM, compare it with the unquantized one. About five minutes."""
    wanted = ways_of(schemes.split(",")) if schemes else WAYS
    try:
        deadline_s = parse_seconds(within)
    except ValueError as error:
        raise UserError(f"--within {within}: {error}") from None
    if not schemes:
        out = out or TABLE
    lab, lines = this_lab(), []

    def say(said: str) -> None:
        console.print(f"  {said}", markup=False)

    for line in measure(keep or lab.folder / "quantize-table", lab.home, say, ways=wanted, deadline_s=deadline_s):
        lines.append(line)
        console.print(line.problem or f"  {line.report}", markup=False, highlight=False)
    if out is None:
        console.print(as_markdown(lines), markup=False, highlight=False, soft_wrap=True)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(as_markdown(lines), encoding="utf-8")
    console.print(f"written to {out}", markup=False)
