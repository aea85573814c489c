"""What rules without statistics look at: point estimates over the last minute, as Prometheus would give them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossfade.judge.verdict import Decision
from judge_bench.latency import Floats
from judge_bench.ramp import Stage
from judge_bench.world import INTERVAL_S, Arm, Seen

MINUTE = round(60 / INTERVAL_S)


@dataclass(frozen=True)
class Look:
    """One engine over one minute. NaN where it answered nothing."""

    error_share: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Minute:
    """Both engines over the same minute."""

    source: Look
    target: Look


class MinuteRule(ABC):
    """A rule that is asked once a minute. Samples lost in a scrape gap stay lost, as with `rate()` over one minute."""

    def __init__(self, bounds_ms: tuple[float, ...]) -> None:
        self._bounds_ms = np.array(bounds_ms)
        self._step = -1
        self._collected = list[tuple[Floats, Floats]]()

    def learn(self, baseline: Callable[[], Seen]) -> None:  # noqa: ARG002
        """These rules look at the ramp only."""
        return

    def memory_bytes(self) -> int:
        """Not asked of them."""
        return 0

    def decide(self, stage: Stage, seen: Seen) -> Decision:
        """Collect, and judge each full minute; the first that decides wins."""
        if stage.step != self._step:
            self._step, self._collected = stage.step, []
            self.begin_step()
        for index in range(len(seen)):
            self._collected.append((_row(seen.source, index, seen), _row(seen.target, index, seen)))
            if len(self._collected) == MINUTE:
                minute, self._collected = self._summed(), []
                decision = self.judge_minute(minute, last=stage.last)
                if decision is not Decision.HOLD:
                    return decision
        return Decision.HOLD

    @abstractmethod
    def begin_step(self) -> None:
        """The share has just changed."""

    @abstractmethod
    def judge_minute(self, minute: Minute, *, last: bool) -> Decision:
        """The rule itself. At the last step there is no source to compare with."""

    def _summed(self) -> Minute:
        return Minute(*(self._look(np.sum([both[arm] for both in self._collected[-MINUTE:]], axis=0)) for arm in (0, 1)))

    def _look(self, row: Floats) -> Look:
        requests, errors, timed = row[0], row[1], row[2:]
        return Look(
            error_share=float(errors / requests) if requests else math.nan,
            p50_ms=interpolated_quantile(timed, self._bounds_ms, 0.5),
            p95_ms=interpolated_quantile(timed, self._bounds_ms, 0.95),
        )


def interpolated_quantile(timed: Floats, bounds_ms: Floats, q: float) -> float:
    """As `histogram_quantile` does it: even within a bucket, the highest finite bound beyond all of them, NaN without answers."""
    cumulated = np.cumsum(timed)
    if not cumulated[-1]:
        return math.nan
    rank = q * cumulated[-1]
    bucket = int(np.searchsorted(cumulated, rank - 1e-9))
    if bucket >= len(bounds_ms):
        return float(bounds_ms[-1])
    low_ms = bounds_ms[bucket - 1] if bucket else 0.0
    below = cumulated[bucket - 1] if bucket else 0.0
    return float(low_ms + (bounds_ms[bucket] - low_ms) * (rank - below) / timed[bucket])


def _row(arm: Arm, index: int, seen: Seen) -> Floats:
    row = np.concatenate(([arm.requests[index], arm.errors[index]], arm.timed[index])).astype(float)
    return row if seen.visible[index] else np.zeros_like(row)
