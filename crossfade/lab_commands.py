"""`crossfade lab ...`: what the lab can measure on this machine beside its demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossfade.home import CHECKOUT
from crossfade.lab.quantize_table import as_markdown, measure
from crossfade.lab.which import this_lab

lab_app = typer.Typer(no_args_is_help=True, help="Measure with the lab's own model and engines.")
console = Console()

TABLE = CHECKOUT / "docs" / "quantize-table.md"


@lab_app.callback()
def _several_commands() -> None:
    """So that the one command there is keeps its name."""


@lab_app.command("quantize-table")
def quantize_table(
    out: Annotated[Path, typer.Option("--out", help="Where the table goes.", metavar="FILE")] = TABLE,
    keep: Annotated[Path | None, typer.Option("--keep", help="Folder for what is made; the lab's own when left out.")] = None,
) -> None:
    """Quantize the lab model in every way, load each result in vLLM, compare it with the unquantized one. About five minutes."""
    lab = this_lab()
    lines = []
    for line in measure(keep or lab.folder / "quantize-table", lab.home, lambda said: console.print(f"  {said}", markup=False)):
        lines.append(line)
        console.print(line.problem or f"  {line.report}", markup=False, highlight=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(as_markdown(lines), encoding="utf-8")
    console.print(f"written to {out}", markup=False)
