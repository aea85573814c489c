"""Raw counter samples to what was counted between them.

Never `increase()`: it extrapolates to the edges of its window and gives fractions of requests. Each sample is compared with the
one before it in the same series. A counter that fell was restarted, and its value is what was counted since; a gap is covered
by the next difference. A histogram's bounds restart together, so one vector holds them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

Labels = frozenset[tuple[str, str]]
Vector = Mapping[float, float]
"""Values by upper bound; a plain counter has one value, at infinity."""


@dataclass(frozen=True)
class Series:
    """One series of counters that are scraped, and restart, together."""

    name: str
    labels: Labels
    samples: tuple[tuple[float, Vector], ...]  # by time in seconds since the epoch, rising

    def label(self, name: str) -> str:
        """A label's value, empty when the series does not have it."""
        return dict(self.labels).get(name, "")

    def after(self, at_s: float) -> Series:
        """The same series with only its samples later than `at_s`."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample[0] > at_s))

    def until(self, at_s: float) -> Series:
        """The same series with only its samples up to `at_s`."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample[0] <= at_s))


@dataclass(frozen=True)
class Step:
    """What was counted up to `at_s` since the sample before."""

    at_s: float
    counted: Vector


class Nonsense(ValueError):
    """Prometheus answered something that counters cannot have been."""


def read_series(result: object) -> list[Series]:
    """The series in an instant query's `result`, range or vector; raises Nonsense for anything else."""
    grouped: dict[tuple[str, Labels], dict[float, dict[float, float]]] = {}
    try:
        for name, labels, bound, samples in _raw(result):
            times = grouped.setdefault((name, labels), {})
            for at, text in samples:
                value = float(text)
                if not 0 <= value < math.inf or not isinstance(text, str):
                    raise Nonsense(f"a counter cannot be {text!r}")
                if at in times:
                    times[at][bound] = value
                else:
                    times[float(at)] = {bound: value}
    except Nonsense:
        raise
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Nonsense(f"not a list of series ({type(error).__name__}: {error})") from None
    return [Series(name, labels, tuple(sorted(times.items(), key=lambda one: one[0]))) for (name, labels), times in grouped.items()]


def _raw(result: object) -> Iterator[tuple[str, Labels, float, Sequence[tuple[float, str]]]]:
    if not isinstance(result, list):
        raise Nonsense(f"expected a list of series, got {type(result).__name__}")
    for series in result:
        labels = dict(series["metric"])
        name, bound = labels.pop("__name__", ""), labels.pop("le", "+Inf")
        samples = series["values"] if "values" in series else [series["value"]]
        yield name, frozenset(labels.items()), float(bound), samples


def steps(series: Series, *, before: Vector) -> Iterator[Step]:
    """What each sample added to the one before it, the first to `before`."""
    for at_s, now in series.samples:
        yield Step(at_s, _counted(before, now))
        before = now


def from_zero(series: Series) -> Vector:
    """A starting value for a series that was seen to begin."""
    return {bound: 0.0 for _, values in series.samples[:1] for bound in values}


def _counted(before: Vector, now: Vector) -> Vector:
    grown = {bound: value - before.get(bound, 0.0) for bound, value in now.items()}
    return grown if _possible(grown.items()) else now


def _possible(grown: Iterable[tuple[float, float]]) -> bool:
    """Counts only grow, and no bound gains more than a higher one: otherwise the counter began anew in between."""
    highest = 0.0
    for _, value in sorted(grown):
        if value < highest:
            return False
        highest = value
    return True
