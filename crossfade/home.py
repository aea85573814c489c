"""Where Crossfade keeps its files: below one root, `CROSSFADE_HOME` (default `~/.crossfade`).

A plan's `store:` moves the weights alone; journal, routes and records of processes always lie here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from crossfade.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[1]
"""The folder that holds pyproject.toml, deployments/ and prefect.yaml."""


@dataclass(frozen=True)
class Home:
    """Paths under the root. Nothing is created by looking."""

    root: Path

    @classmethod
    def from_environment(cls) -> Self:
        """The root this process was told, always absolute; raises UserError for one that names no folder, like `~nobody/x`."""
        told = os.environ.get("CROSSFADE_HOME") or "~/.crossfade"
        try:
            return cls(Path(told).expanduser().resolve())
        except RuntimeError as error:  # no such user, or links that lead in a circle
            raise UserError(f"CROSSFADE_HOME={told}: {str(error).rstrip('.')}. Set it to a folder of yours on a local disk.") from None

    @property
    def journal(self) -> Path:
        """SQLite file of the journal."""
        return self.root / "journal.sqlite"

    @property
    def router(self) -> Path:
        """Route folder: bootstrap, route file, generations, latches, lock, admin socket."""
        return self.root / "router"

    @property
    def weights(self) -> Path:
        """Downloaded and quantized weights, content-addressed."""
        return self.root / "weights"

    @property
    def processes(self) -> Path:
        """Records of the processes we started, to adopt or stop them later."""
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        """Logs of those processes."""
        return self.root / "logs"

    @property
    def environments(self) -> Path:
        """Python environments of tools that cannot live in ours; `CROSSFADE_ENVIRONMENTS` moves them."""
        return Path(os.environ.get("CROSSFADE_ENVIRONMENTS") or self.root / "environments").expanduser().resolve()
