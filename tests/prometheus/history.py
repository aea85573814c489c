"""Samples of long ago in a real Prometheus: `promtool` writes them as blocks, so hours of history cost no waiting."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from exposition import ALIVE

Samples = Mapping[str, Sequence[tuple[float, float]]]
"""Series as text, and their values by seconds since the epoch."""


def with_instance(series: str, instance: str) -> str:
    """What Prometheus makes of a series it scrapes."""
    return series[:-1] + f',job="crossfade-router",instance="{instance}"' + "}"


def scraped_counts(series: Mapping[str, Sequence[tuple[float, float]]], instance: str) -> dict[str, list[tuple[float, float]]]:
    """Series of one process, with the sign of life at every time at which one of them has a sample."""
    times = sorted({at_s for samples in series.values() for at_s, _ in samples})
    alive = {with_instance(ALIVE, instance): [(at_s, 1.0) for at_s in times]}
    return alive | {with_instance(name, instance): list(samples) for name, samples in series.items()}


def write_blocks(promtool: Path, folder: Path, samples: Samples) -> None:
    """Blocks for a Prometheus that has not been started yet."""
    names: dict[str, list[str]] = {}
    for series, values in samples.items():
        lines = names.setdefault(series.partition("{")[0], [])
        lines += [f"{series} {value} {at_s:.3f}" for at_s, value in values]
    text = "".join(f"# TYPE {name} unknown\n" + "\n".join(lines) + "\n" for name, lines in names.items()) + "# EOF\n"
    folder.mkdir(parents=True)
    source = folder.parent / "history.txt"
    source.write_text(text)
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", source, folder], check=True, capture_output=True)
