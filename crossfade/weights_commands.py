"""`crossfade weights ...`: what a folder of weights is, and whether it still is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crossfade.assess.tensors import count_header
from crossfade.errors import UserError, WeightsInvalid
from crossfade.weights import MANIFEST, WeightsManifest, load_manifest, read_headers, verify

weights_app = typer.Typer(no_args_is_help=True, help="Look at downloaded and quantized weights.")
console = Console()
Folder = Annotated[Path, typer.Argument(help=f"A folder with a {MANIFEST}, or one above several.", metavar="PATH")]


@weights_app.command("show")
def show(path: Folder) -> None:
    """What the manifest says: where the weights come from, how they are stored, every file with size and hash. Nothing is hashed."""
    for folder in _folders(path):
        manifest = load_manifest(folder)
        console.print(f"[bold]{manifest.repo}[/bold] at {manifest.commit}, scheme {manifest.scheme}", highlight=False)
        console.print(f"in {folder}, made by {manifest.made_by}{f' of {manifest.base}' if manifest.base else ''}", highlight=False)
        console.print(_tensors(folder, manifest), highlight=False)
        table = Table("file", "bytes", "sha256")
        for file in manifest.files:
            table.add_row(file.path, f"{file.bytes:,}", file.sha256[:16])
        table.add_row("total", f"{manifest.total_bytes:,}", "")
        console.print(table)


@weights_app.command("verify")
def verify_files(path: Folder) -> None:
    """Read and hash every file again. Exit code 1 when one is missing, differs, or was put there by somebody else."""
    broken = []
    for folder in _folders(path):
        try:
            manifest = verify(folder)
        except WeightsInvalid as error:
            broken.append(folder)
            console.print(f"[red]broken[/red] {folder}: {error}", highlight=False)
        else:
            console.print(f"[green]good[/green]   {folder}: {len(manifest.files)} files, {manifest.total_bytes:,} bytes", highlight=False)
    if broken:
        raise WeightsInvalid(f"{len(broken)} of the weights under {path} cannot be trusted; the lines above say why and what to do.")


def _folders(path: Path) -> list[Path]:
    if (path / MANIFEST).exists():
        return [path]
    found = sorted(manifest.parent for manifest in path.rglob(MANIFEST))
    if not found:
        raise UserError(f"there is no {MANIFEST} in {path} or below it. Name a folder of weights, like $CROSSFADE_HOME/weights.")
    return found


def _tensors(folder: Path, manifest: WeightsManifest) -> str:
    census = count_header(read_headers(folder, manifest))
    return f"{census.total_bytes:,} bytes of tensors, {census.linear_bytes:,} of them in linear layers at full precision"
