"""Room on the disk that only a way back may use: a file of no meaning, given up where there is no other room left."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crossfade.envoy.durable import DiskFull, replace

LEAST_BYTES = 256 * 1024
"""The least room kept for a trip. A latch is tiny; a large table, which is written twice, has three times its size."""


@dataclass(frozen=True)
class Ballast:
    """The file, which may be missing."""

    file: Path

    def keep(self, *, beside: Path) -> None:
        """Fill it where it is missing or too small for the table in that file; on a full disk it stays as it is."""
        with suppress(OSError, DiskFull):
            table_bytes = beside.stat().st_size if beside.exists() else 0
            wanted = max(LEAST_BYTES, 3 * table_bytes)
            if not self.file.exists() or self.file.stat().st_size < wanted:
                replace(self.file, secrets.token_urlsafe(wanted))  # nothing that a filesystem could store smaller

    def even_when_full(self, deed: Callable[[], None]) -> None:
        """Do what takes requests off a target; where the disk has no room left, with the ballast's."""
        try:
            deed()
        except DiskFull:
            self.file.unlink(missing_ok=True)
            deed()
