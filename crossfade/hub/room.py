"""Whether the disk can take a download before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from crossfade.errors import NotEnoughRoom
from crossfade.hub.repository import ResolvedRepository
from crossfade.hub.stream import part_of
from crossfade.weights import folder_for


def check_room(resolved: ResolvedRepository, folder: Path, copies: int) -> None:
    """Return when the filesystem of `folder` (it need not exist yet) can take `copies` times the weights.

    Two copies leave room for quantized weights beside the downloaded ones. What an interrupted download left counts as
    taken already. Raises NotEnoughRoom with the numbers.
    """
    there = folder_for(folder, resolved.repo, resolved.commit)
    present = sum(
        max(_present_bytes(path, file.bytes) for path in (there / file.path, part_of(there, file.path))) for file in resolved.files
    )
    needed = resolved.total_bytes * copies - present
    free = _free_bytes(folder)
    if needed > free:
        raise NotEnoughRoom(
            f"{resolved.repo} needs {_gb(needed)} in {folder} ({_gb(resolved.total_bytes)} for each of {copies} "
            f"{'copy' if copies == 1 else 'copies'}, {_gb(present)} are there), but only {_gb(free)} are free. "
            f"Make {_gb(needed - free)} of room, or point store: at a larger disk."
        )


def _present_bytes(path: Path, wanted: int) -> int:
    try:
        return min(path.stat().st_size, wanted)
    except OSError:
        return 0


def _free_bytes(folder: Path) -> int:
    for path in (folder, *folder.absolute().parents):
        if path.exists():
            return shutil.disk_usage(path).free
    return 0


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 50_000_000 else f"{count / 1e6:.1f} MB"
