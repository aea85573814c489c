"""What a person sees while a migration runs: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from crossfade.judge.evidence import Counts
from crossfade.judge.histogram import quantile
from crossfade.plan.units import format_share
from crossfade.rollout.phases import ENDED

PLAIN_EVERY_S = 5.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a migration at one moment, from the journal, Prometheus and the clients' own report."""

    stage: str
    share_bp: int
    because: str
    source: Counts
    target: Counts
    client_requests: int
    client_failed: int
    elapsed_s: float

    @property
    def ended(self) -> bool:
        """Whether nothing more happens without a person."""
        return self.stage in ENDED

    def line(self) -> str:
        """One plain line."""
        return (
            f"[{self.elapsed_s:4.0f} s] {self.stage:<12} target {format_share(self.share_bp):>4} | "
            f"source {_engine(self.source)} | target {_engine(self.target)} | "
            f"clients {self.client_requests} requests, {self.client_failed} failed"
        )


class View:
    """Shows snapshots and messages; a context manager that leaves the terminal as it found it. `source` is the source engine's name."""

    def __init__(self, console: Console, source: str) -> None:
        self._console, self._source = console, source
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._last = ("", 0.0)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def say(self, message: str) -> None:
        """A message that stays."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def show(self, now: Snapshot) -> None:
        """The newest snapshot: redrawn on a terminal, else one line when the stage changed or some seconds have passed."""
        if self._live:
            self._live.update(_table(now, self._source))
            return
        key, shown_s = f"{now.stage} {now.share_bp}", time.monotonic()
        if key != self._last[0] or shown_s - self._last[1] >= PLAIN_EVERY_S:
            self._last = (key, shown_s)
            self.say(now.line())


def _engine(counts: Counts) -> str:
    return f"{counts.requests:>5} ok+err, {counts.errors:>3} err, p95 {_p95(counts)}"


def _p95(counts: Counts) -> str:
    value = quantile(counts.duration, 0.95).estimate_ms
    return "-" if math.isnan(value) else f"{value:.0f} ms"


def _table(now: Snapshot, source: str) -> Table:
    table = Table(title=f"Crossfade demo, {now.elapsed_s:.0f} s: {now.stage}, {format_share(now.share_bp)} on the target", expand=False)
    for column in ("engine", "share", "requests", "errors", "p95"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    table.add_row(
        f"source ({source})", format_share(10_000 - now.share_bp), str(now.source.requests), str(now.source.errors), _p95(now.source)
    )
    table.add_row("target (vLLM)", format_share(now.share_bp), str(now.target.requests), str(now.target.errors), _p95(now.target))
    table.add_section()
    table.add_row("clients saw", "", str(now.client_requests), str(now.client_failed), "")
    table.caption = now.because[:120]
    return table
