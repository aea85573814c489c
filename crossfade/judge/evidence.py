"""What the judge looks at: counts per engine and interval, and instant readings."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from crossfade.rollout.routes import FULL_BP

Histogram = tuple[tuple[float, int], ...]
"""Cumulative counts by upper bound in milliseconds, rising; the last bound is infinity and holds the total.

Bounds at which nothing begins or ends may be left out (`thinned`): every count in between is then known all the same.
"""

Measure = Literal["ttft", "duration"]


def thinned(histogram: Histogram) -> Histogram:
    """The same histogram with only the two bounds of each bucket that holds a request, and the last one."""
    kept, counted, before = list[tuple[float, int]](), 0, None
    for bound in histogram:
        if bound[1] != counted:
            if before is not None and (not kept or kept[-1] is not before):
                kept.append(before)
            kept.append(bound)
            counted = bound[1]
        before = bound
    if before is not None and (not kept or kept[-1] is not before):
        kept.append(before)
    return tuple(kept)


# an interval is journaled with two histograms an engine; most of some 200 bounds have nothing to say
_Thin = Annotated[Histogram, PlainSerializer(thinned, when_used="json")]


class Counts(BaseModel):
    """Requests meant for one engine in one interval.

    `errors` are requests that failed there: 5xx, cut streams, and those the router answered from the other engine.
    A client that hung up is neither an error nor a success and is not counted at all.
    """

    # the last bound is infinite, which plain JSON cannot say
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    requests: int = 0
    errors: int = 0
    ttft: _Thin = ()
    duration: _Thin = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            ttft=sum_of(self.ttft, other.ttft),
            duration=sum_of(self.duration, other.duration),
        )

    def histogram(self, measure: Measure) -> Histogram:
        """The histogram a latency gate asks for."""
        return self.ttft if measure == "ttft" else self.duration


class Interval(BaseModel):
    """Evidence between two Prometheus sample times, seconds since the epoch.

    `shadow` are mirrored requests whose replies nobody saw. They speak for the target before a step and never before cutover.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    start_s: float
    end_s: float
    source: Counts = Counts()
    target: Counts = Counts()
    shadow: Counts = Counts()


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


class Refused(BaseModel):
    """Why a query can never give one number, whatever happens: a metric nobody exports, a vector, NaN. Says what to write instead."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["refused"] = "refused"
    gate: str
    why: str


class Evidence(BaseModel):
    """What is new since the last verdict of a migration; stored whole, so that the verdict can be judged again.

    `intervals` were all seen at the share in force, `share_bp`, and are none of those judged before; oldest first.
    `next_share_bp` is what a promotion would put in force: 10000 in the soak, and where nobody said, for nothing asks for more proof.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    boundary: str
    step: int = -1
    share_bp: int = 0
    next_share_bp: int = Field(default=FULL_BP, gt=0)
    held_s: float = 0.0
    intervals: tuple[Interval, ...] = ()
    readings: tuple[Reading | Blind, ...] = ()
    blind: str = ""  # why there are no intervals, when Prometheus could not say

    def totals(self) -> tuple[Counts, Counts]:
        """Source and target summed over all intervals."""
        return add_up(i.source for i in self.intervals), add_up(i.target for i in self.intervals)


def add_up(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    every = tuple(counts)
    return Counts(
        requests=sum(one.requests for one in every),
        errors=sum(one.errors for one in every),
        ttft=sum_of(*(one.ttft for one in every)),
        duration=sum_of(*(one.duration for one in every)),
    )


def sum_of(*histograms: Histogram) -> Histogram:
    """All together; bounds that one of them left out are taken as such."""
    first = histograms[0] if histograms else ()
    inside = {bound: count - before for (bound, count), before in zip(first, [0, *[count for _, count in first]], strict=False)}
    for histogram in histograms[1:]:
        before = 0
        for bound, count in histogram:
            inside[bound] = inside.get(bound, 0) + count - before
            before = count
    if len(inside) > len(first):  # else every bound is one of the first's, and they are in order
        inside = dict(sorted(inside.items()))
    return tuple(zip(inside, accumulate(inside.values()), strict=True))
