"""Raw samples of the router: where intervals are counted from, be it Prometheus or a recording.

Times are whole milliseconds, as Prometheus keeps them: sums of seconds would differ in their last digits, and then the same moment
would lie in one interval for one caller and in the next for another.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class PrometheusSamples:
    """The samples of a route in Prometheus. Raises NoAnswer or Nonsense."""

    asking: Asking
    route: str
    target: str = ""
    measures: frozenset[Measure] = MEASURES

    def alive(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """One sample for each successful scrape."""
        return self._range(queries.sign_of_life(), from_ms, until_ms)

    def span(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """The sign of life and everything that is counted."""
        of_route, of_all = queries.evidence(self.route, self.target, self.measures)
        return [*self._range(of_route, from_ms, until_ms), *self._range(of_all, from_ms, until_ms)]

    def last(self, at_ms: int, back_ms: int) -> Sequence[Series]:
        """The newest value of each series."""
        return [
            one
            for selector in queries.evidence(self.route, self.target, self.measures)
            for one in self._ask(queries.last(selector, back_ms / 1000), at_ms)
        ]

    def uptime(self, endpoint: Endpoint, at_ms: int) -> float | None:
        """Seconds a process had been running."""
        found = [value for one in self._ask(queries.uptime(*endpoint), at_ms) for _, values in one.samples for value in values.values()]
        return max(found, default=None)

    def _range(self, selector: str, from_ms: int, until_ms: int) -> list[Series]:
        """A range includes its start in some versions of Prometheus and not in others."""
        found = self._ask(queries.over(selector, (until_ms - from_ms) / 1000), until_ms)
        later = [series.after(from_ms / 1000) for series in found]
        if any(to_ms(series.samples[-1][0]) > until_ms for series in later if series.samples):
            raise Nonsense("Prometheus answers with samples of a time nobody asked for; is something between it and us that keeps answers?")
        return [series for series in later if series.samples]

    def _ask(self, promql: str, at_ms: int) -> list[Series]:
        return read_series(self.asking.ask(promql, at_s=at_ms / 1000))
