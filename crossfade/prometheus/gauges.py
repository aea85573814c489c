"""The newest value of a gauge in each of its series, told apart by chosen labels."""

from __future__ import annotations

import math

from crossfade.errors import Unreachable
from crossfade.prometheus.asking import Asking, NoAnswer
from crossfade.prometheus.increase import Nonsense, read_series


def gauge_by(url: str, promql: str, labels: tuple[str, ...], *, timeout_s: float) -> dict[tuple[str, ...], float]:
    """Values by their labels; empty when nobody scrapes it. Values below 0 are no such gauge. Raises Unreachable."""
    try:
        found = read_series(Asking(url, timeout_s=timeout_s).ask(promql))
    except (NoAnswer, Nonsense) as error:
        raise Unreachable(f"Prometheus at {url} does not say {promql}: {error}") from None
    return {tuple(series.label(name) for name in labels): series.samples[-1][1][math.inf] for series in found}
