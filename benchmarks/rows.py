"""What every benchmark hands back: named rows with their bars, the machine they were measured on, a table and a JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One result. `bar` is the limit promised in the design, like `<= 5` or `>= 25000`; empty for a row that is there to compare with."""

    name: str
    value: float
    unit: str
    bar: str = ""
    n: int = 1

    def met(self) -> str:
        """`met`, `not met`, or nothing where nothing was promised."""
        if not self.bar:
            return ""
        sign, _, limit = self.bar.rpartition(" ")
        holds = {"<=": self.value <= float(limit), ">=": self.value >= float(limit), "": self.value == float(limit)}
        return "met" if holds[sign] else "not met"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest measured value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine(**versions: str) -> dict[str, str | int | float]:
    """What the numbers depend on, also how busy others keep the machine; `versions` adds the programs measured."""
    model = next((line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor())
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu_busy_before_pct": psutil.cpu_percent(interval=1),
        **versions,
    }


def report(title: str, measured_on: dict[str, str | int | float], rows: Sequence[Row], json_file: Path | None) -> None:
    """Print the table, and write the file when one was asked for."""
    table = Table("row", "value", "unit", "bar", "", "n", title=title, title_justify="left")
    for row in rows:
        table.add_row(row.name, f"{row.value:.4g}", row.unit, row.bar, row.met(), f"{row.n:,}")
    console = Console(width=None if os.isatty(1) else 120)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in measured_on.items()), highlight=False)
    if json_file:
        document = {"machine": measured_on, "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(document, indent=1) + "\n")


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
