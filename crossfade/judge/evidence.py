"""What the judge looks at: counts per engine and interval, and instant readings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

Histogram = tuple[tuple[float, int], ...]
"""Cumulative counts by upper bound in milliseconds, rising; the last bound is infinity and holds the total."""


class Counts(BaseModel):
    """Requests meant for one engine in one interval.

    `errors` are requests that failed there: 5xx, cut streams, and those the router answered from the other engine.
    A client that hung up is neither an error nor a success and is not counted at all.
    """

    # the last bound is infinite, which plain JSON cannot say
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    requests: int = 0
    errors: int = 0
    ttft: Histogram = ()
    duration: Histogram = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            ttft=_add(self.ttft, other.ttft),
            duration=_add(self.duration, other.duration),
        )

    def histogram(self, measure: Literal["ttft", "duration"]) -> Histogram:
        """The histogram a latency gate asks for."""
        return self.ttft if measure == "ttft" else self.duration


class Interval(BaseModel):
    """Evidence between two Prometheus sample times, seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    start_s: float
    end_s: float
    source: Counts = Counts()
    target: Counts = Counts()


class Reading(BaseModel):
    """The number an instant query gave."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["reading"] = "reading"
    gate: str
    value: float


class Blind(BaseModel):
    """Why an instant query gave no usable number: down, slow, stale, empty, a vector, NaN."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["blind"] = "blind"
    gate: str
    why: str


class Evidence(BaseModel):
    """Everything one verdict rests on; stored whole, so that the verdict can be judged again."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    boundary: str
    held_s: float = 0.0
    intervals: tuple[Interval, ...] = ()
    readings: tuple[Reading | Blind, ...] = ()
    blind: str = ""  # why there are no intervals, when Prometheus could not say

    def totals(self) -> tuple[Counts, Counts]:
        """Source and target summed over all intervals."""
        return _sum(i.source for i in self.intervals), _sum(i.target for i in self.intervals)


def _sum(counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for one in counts:
        total = total + one
    return total


def _add(left: Histogram, right: Histogram) -> Histogram:
    if not left or not right:
        return left or right
    merged = dict(left)
    for bound, count in right:
        merged[bound] = merged.get(bound, 0) + count
    return tuple(sorted(merged.items()))
