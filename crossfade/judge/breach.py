"""The hard breach: a target so plainly bad that the guard rolls back without asking the judge.

It looks at a short window only and compares with nothing: a shared outage also breaches, because the source is at least the
engine the users had before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crossfade.judge.evidence import Counts, Interval
from crossfade.judge.histogram import slower_than
from crossfade.plan.model import GuardPlan
from crossfade.plan.units import format_seconds


@dataclass(frozen=True)
class Numbers:
    """What was counted on the target in the window; stored beside the decision, so that it can be judged again."""

    requests: int
    errors: int
    timed: int
    slow: int
    slow_after_ms: float
    window_s: float


@dataclass(frozen=True)
class Breach:
    """The target must lose its traffic now."""

    reason: str
    numbers: Numbers


@dataclass(frozen=True)
class NoBreach:
    """Nothing the guard acts on; not a word about whether the target is good."""

    reason: str
    numbers: Numbers


def hard_breach(guard: GuardPlan, intervals: Iterable[Interval]) -> Breach | NoBreach:
    """Judge one window, errors before slowness.

    Slow means time to first token, because the length of a whole answer is the client's choice. When `slow_after` lies
    between two histogram bounds, only requests over the upper one count: they are slow for certain.
    """
    found = tuple(intervals)
    target = sum((interval.target for interval in found), Counts())
    timed, slow = slower_than(target.ttft, guard.slow_after).surely
    window_s = max((i.end_s for i in found), default=0.0) - min((i.start_s for i in found), default=0.0)
    numbers = Numbers(target.requests, target.errors, timed, slow, guard.slow_after, window_s)
    if _too_many(target.errors, target.requests, guard.errors_at_least, guard.error_share_above):
        return Breach(
            f"{_of(target.errors, target.requests)} requests failed, the plan's guard allows {100 * guard.error_share_above:.3g}%", numbers
        )
    if _too_many(slow, timed, guard.errors_at_least, guard.slow_share_above):
        limit = format_seconds(guard.slow_after / 1000)
        return Breach(f"{_of(slow, timed)} requests waited over {limit} for their first token", numbers)
    return NoBreach(f"{_of(target.errors, target.requests)} requests failed", numbers)


def _too_many(bad: int, total: int, at_least: int, share_above: float) -> bool:
    return bad >= at_least and bad > share_above * total


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}"
