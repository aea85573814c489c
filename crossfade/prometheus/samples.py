"""Raw samples of the router: where intervals are counted from, be it Prometheus or a recording.

Times are whole milliseconds, as Prometheus keeps them: sums of seconds would differ in their last digits, and then the same moment
would lie in one interval for one caller and in the next for another.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from crossfade.plan.gates import MEASURES, Measure
from crossfade.prometheus import queries
from crossfade.prometheus.asking import Asking
from crossfade.prometheus.increase import Nonsense, Series, read_series

Endpoint = tuple[str, str]
"""Labels `job` and `instance` of one process of the router; a second one has an instance of its own."""


def endpoint_of(series: Series) -> Endpoint:
    """Which process of the router a series belongs to."""
    return series.label("job"), series.label("instance")


def to_ms(seconds: float) -> int:
    """A moment as Prometheus keeps it."""
    return round(seconds * 1000)


class Samples(Protocol):
    """Raw samples of one route. Spans are open at their start and closed at their end."""

    def alive(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """The router's sign of life per process: one sample for each scrape that succeeded."""

    def span(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """The sign of life and everything that is counted."""

    def last(self, at_ms: int, back_ms: int) -> Sequence[Series]:
        """The same series with the one value that was the newest at `at_ms`, if it was no older than `back_ms`.

        The time of that value is not to be relied on.
        """

    def uptime(self, endpoint: Endpoint, at_ms: int) -> float | None:
        """Seconds a process had been running at `at_ms`, if it says so."""


_COMMON_MS = 900_000
"""How far back the samples that are no route's own are kept for the next route: longer than ticks are apart."""


class Common:
    """The sign of life, and what is mirrored to a target: the same for all routes, so it is asked for once and reused for some time.

    That changes no count: samples that are there never change, and one that is missing yet only lets an interval end a little later.
    Safe in several threads. Raises NoAnswer or Nonsense, and asks again at the next call.
    """

    def __init__(self, asking: Asking, target: str = "", *, reused_for_s: float = 0.0) -> None:
        self._asking, self._target, self._reused_for_s = asking, target, reused_for_s
        self._lock = threading.Lock()
        self._kept: dict[frozenset[Measure], _Kept] = {}

    def span(self, from_ms: int, until_ms: int, measures: frozenset[Measure]) -> list[Series]:
        """Samples later than `from_ms` and up to `until_ms`."""
        _, of_all = queries.evidence("", self._target, measures)
        if not self._reused_for_s:
            return ranged(self._asking, of_all, from_ms, until_ms)
        with self._lock:
            kept = self._kept.get(measures)
            if kept is None or from_ms < kept.from_ms or until_ms > kept.until_ms + 1000 * self._reused_for_s:
                from_kept_ms = min(from_ms, until_ms - _COMMON_MS)
                found = ranged(self._asking, of_all, from_kept_ms, until_ms)
                kept = self._kept[measures] = _Kept(from_kept_ms, until_ms, found)
        cut = (series.after(from_ms / 1000).until(until_ms / 1000) for series in kept.series)
        return [series for series in cut if series.samples]


@dataclass(frozen=True)
class _Kept:
    from_ms: int
    until_ms: int
    series: list[Series]


@dataclass(frozen=True)
class PrometheusSamples:
    """The samples of a route in Prometheus. Raises NoAnswer or Nonsense."""

    asking: Asking
    common: Common
    route: str
    target: str = ""
    measures: frozenset[Measure] = MEASURES

    def alive(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """One sample for each successful scrape."""
        return [series for series in self.common.span(from_ms, until_ms, self.measures) if series.name == queries.ROUTER_ALIVE]

    def span(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """The sign of life and everything that is counted."""
        of_route, _ = queries.evidence(self.route, self.target, self.measures)
        return [*ranged(self.asking, of_route, from_ms, until_ms), *self.common.span(from_ms, until_ms, self.measures)]

    def last(self, at_ms: int, back_ms: int) -> Sequence[Series]:
        """The newest value of each series."""
        return [
            one
            for selector in queries.evidence(self.route, self.target, self.measures)
            for one in _asked(self.asking, queries.last(selector, back_ms / 1000), at_ms)
        ]

    def uptime(self, endpoint: Endpoint, at_ms: int) -> float | None:
        """Seconds a process had been running."""
        found = _asked(self.asking, queries.uptime(*endpoint), at_ms)
        return max((value for one in found for _, values in one.samples for value in values.values()), default=None)


def ranged(asking: Asking, selector: str, from_ms: int, until_ms: int) -> list[Series]:
    """Samples later than `from_ms`: a range includes its start in some versions of Prometheus and not in others."""
    found = _asked(asking, queries.over(selector, (until_ms - from_ms) / 1000), until_ms)
    later = [series.after(from_ms / 1000) for series in found]
    if any(to_ms(series.samples[-1][0]) > until_ms for series in later if series.samples):
        raise Nonsense("Prometheus answers with samples of a time nobody asked for; is something between it and us that keeps answers?")
    return [series for series in later if series.samples]


def _asked(asking: Asking, promql: str, at_ms: int) -> list[Series]:
    return read_series(asking.ask(promql, at_s=at_ms / 1000))
