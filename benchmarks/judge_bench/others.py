"""The decision rules of Flagger, Argo Rollouts and Kayenta, written anew and simplified.

They are rules with one plausible configuration each, not the products: those can be configured in many other ways. Read in the
projects' sources: fluxcd/flagger pkg/controller/scheduler.go, argoproj/argo-rollouts analysis/analysis.go, and of spinnaker/kayenta the
MannWhitneyClassifier, NetflixACAJudge and WeightedSumScorer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from crossfade.judge.verdict import Decision
from judge_bench.mann_whitney import is_surely_higher, without_outliers
from judge_bench.minutes import Look, Minute, MinuteRule


@dataclass(frozen=True)
class Limits:
    """Absolute ones for all; relative ones where a rule compares engines."""

    error_share: float = 0.01
    p95_ms: float = 500.0
    errors_x: float = 1.5
    p95_x: float = 1.2


class Flagger(MinuteRule):
    """A minute within the limits takes the next step, any other or one without data counts against the canary; five of them end it.

    A failed minute is never forgiven. `passes` asks for more good minutes a step than the one Flagger needs.
    """

    def __init__(self, bounds_ms: tuple[float, ...], *, limits: Limits = Limits(), failures: int = 5, passes: int = 1) -> None:
        super().__init__(bounds_ms)
        self._limits, self._allowed, self._needed = limits, failures, passes
        self._failed = self._passed = 0

    def begin_step(self) -> None:
        """Only the passes start again."""
        self._passed = 0

    def judge_minute(self, minute: Minute, *, last: bool) -> Decision:  # noqa: ARG002
        """Count it for or against."""
        if all(_within(minute.target, self._limits)):
            self._passed += 1
            return Decision.PROMOTE if self._passed >= self._needed else Decision.HOLD
        self._failed += 1
        return Decision.ROLL_BACK if self._failed >= self._allowed else Decision.HOLD


class Argo(MinuteRule):
    """Five measurements of each metric a step. More failures than one, or more than four minutes in a row without data, end the rollout;
    after the fifth it goes on whatever the others were. `relative` adds metrics that compare with the stable version.
    """

    def __init__(
        self,
        bounds_ms: tuple[float, ...],
        *,
        limits: Limits = Limits(),
        relative: bool = False,
        count: int = 5,
        failure_limit: int = 1,
        consecutive_error_limit: int = 4,
    ) -> None:
        super().__init__(bounds_ms)
        self._limits, self._relative, self._count = limits, relative, count
        self._failure_limit, self._error_limit = failure_limit, consecutive_error_limit
        self.begin_step()

    def begin_step(self) -> None:
        """Each step has an analysis of its own."""
        self._measured = self._errors_in_a_row = 0
        self._failures = list[int]()

    def judge_minute(self, minute: Minute, *, last: bool) -> Decision:  # noqa: ARG002
        """One measurement of each metric."""
        self._measured += 1
        if math.isnan(minute.target.error_share):
            self._errors_in_a_row += 1
        else:
            self._errors_in_a_row = 0
            passed = self._passed(minute)
            self._failures = [failed + (not good) for failed, good in zip(self._failures or [0] * len(passed), passed, strict=True)]
        if max(self._failures, default=0) > self._failure_limit or self._errors_in_a_row > self._error_limit:
            return Decision.ROLL_BACK
        return Decision.PROMOTE if self._measured >= self._count else Decision.HOLD

    def _passed(self, minute: Minute) -> list[bool]:
        passed = _within(minute.target, self._limits)
        if self._relative:
            alone = math.isnan(minute.source.error_share)
            passed.append(alone or minute.target.error_share <= self._limits.errors_x * minute.source.error_share)
            passed.append(alone or minute.target.p95_ms <= self._limits.p95_x * minute.source.p95_ms)
        return passed


class Kayenta(MinuteRule):
    """Fifteen one-minute points a step of error share, p50 and p95, judged after 5, 10 and 15 of them by Mann-Whitney at 98 %.

    The score is the share of metrics that are not high, 0 when half of them or more have no data. Below `marginal` it rolls back; at the
    end it goes on from `enough` and rolls back below. `allowed` adds an effect size: ratios of means that are never high, per metric.
    """

    def __init__(
        self,
        bounds_ms: tuple[float, ...],
        *,
        points: int = 15,
        judged_every: int = 5,
        marginal: float = 50.0,
        enough: float = 75.0,
        allowed: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__(bounds_ms)
        self._points, self._judged_every, self._marginal, self._enough, self._allowed = points, judged_every, marginal, enough, allowed
        self.begin_step()

    def begin_step(self) -> None:
        """Each step has an analysis of its own."""
        self._seen = list[Minute]()

    def judge_minute(self, minute: Minute, *, last: bool) -> Decision:
        """Note the point, and judge when it is time."""
        self._seen.append(minute)
        complete = len(self._seen) >= self._points
        if len(self._seen) % self._judged_every:
            return Decision.HOLD
        if last:
            return Decision.PROMOTE if complete else Decision.HOLD
        score = self._score()
        if score < self._marginal:
            return Decision.ROLL_BACK
        if complete:
            return Decision.PROMOTE if score >= self._enough else Decision.ROLL_BACK
        return Decision.HOLD

    def _score(self) -> float:
        good = known = 0
        metrics = ("error_share", "p50_ms", "p95_ms")
        for index, metric in enumerate(metrics):
            target = without_outliers([getattr(minute.target, metric) for minute in self._seen])
            source = without_outliers([getattr(minute.source, metric) for minute in self._seen])
            if target and source:
                known += 1
                good += not (is_surely_higher(target, source) and self._matters(index, target, source))
        return 100 * good / known if known > len(metrics) / 2 else 0.0

    def _matters(self, index: int, target: list[float], source: list[float]) -> bool:
        target_mean, source_mean = sum(target) / len(target), sum(source) / len(source)
        if not self._allowed or not target_mean or not source_mean:
            return True
        return target_mean / source_mean > self._allowed[index]


def _within(look: Look, limits: Limits) -> list[bool]:
    """NaN is within nothing."""
    return [look.error_share <= limits.error_share, look.p95_ms <= limits.p95_ms]
