"""One interval after another into the judge's memory. All constants are in seconds, so that short and long intervals weigh alike.

Each test against the target is an e-process restarted in every interval with a small prior (2.6 of the statistics' source, after Shin,
Ramdas and Rinaldo): a defect that begins late is found as fast as an early one, and the whole still errs with probability alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossfade.judge.baseline import Baseline
from crossfade.judge.evalues import (
    DOWN,
    NEVER,
    OVER_FLOOR,
    PLAINLY,
    UP,
    above,
    below,
    log_add,
    log_mean,
    log_sum,
    one_sample,
    one_sample_each,
    rate_ratio,
    restarted,
    two_sample_each,
)
from crossfade.judge.evidence import Counts, Evidence, Interval, thinned
from crossfade.judge.latencies import Pair, Remembered, Slow, decayed, over_limit, over_ratio
from crossfade.judge.rules import Rules, Yardstick
from crossfade.judge.state import JudgeState
from crossfade.judge.tally import tallied
from crossfade.judge.tests_of import ErrorLimit, ErrorRatio, SlowLimit, SlowRatio, name_of
from crossfade.plan.model import JudgePlan
from crossfade.rollout.routes import FULL_BP

_HIGHEST_SLOW, _HIGHEST_ERRORS = 0.95, 0.9
"""No alternative rate is taken higher."""

_LEAST_PRIOR = 1e-6
_SAME_S = 0.001


@dataclass(frozen=True)
class _Where:
    """The share promotion would lead to (0..1), whether the source has traffic to compare with, and whether this interval may prove."""

    next_share: float
    compares: bool
    proves: bool


@dataclass
class _Book:
    """The memory while one interval is entered."""

    judge: JudgePlan
    shares: dict[str, float]
    least_share: float
    budget: float
    length_s: float
    step_prior: float
    log_started: float  # prior spent on a defect that begins in this interval
    log_left: float
    rollback: dict[str, tuple[float, ...]]
    promote: dict[str, tuple[float, ...]]

    def against(self, name: str, logs: Sequence[float], *, capped: bool = True) -> float:
        """The log e-value against the target after this interval; no single blip is worth more than its seconds.

        An interval stretched over a gap is worth one regular interval: nobody knows when in it the requests came.
        """
        if capped and self.judge.blip > 0:
            share = self.shares.get(name, self.least_share)
            needed = math.log(len(logs) / (self.budget * share * self.step_prior))
            most = needed * min(self.length_s, self.judge.interval) / self.judge.blip
            if max(logs) > most:
                logs = [one if one < most else most for one in logs]
        self.rollback[name] = restarted(self.rollback.get(name, (NEVER,) * len(logs)), self.log_started, logs)
        return self.value(name)

    def value(self, name: str) -> float:
        """The log e-value of a test as it stands: its restarts so far, and the prior that is still unspent."""
        return log_add(log_mean(self.rollback[name]), self.log_left)

    def forgive(self, name: str) -> None:
        """Where the source shared a fault, it is not held against the target once there is no source left to compare with."""
        if name in self.rollback and f"{name}/worse" in self.rollback:
            excess = self.value(name) - self.value(f"{name}/worse")
            if excess > 0:
                self.rollback[name] = tuple(one - excess for one in self.rollback[name])

    def in_favour(self, name: str, logs: Sequence[float]) -> None:
        """Enter evidence for promotion from this step."""
        before = self.promote.get(name, (0.0,) * len(logs))
        self.promote[name] = tuple([old + new for old, new in zip(before, logs, strict=True)])


def fold(yardstick: Yardstick, state: JudgeState, evidence: Evidence) -> JudgeState:
    """The memory after all new intervals of `evidence`."""
    state = state.at_step(evidence.step)
    entered = []
    for interval in evidence.intervals:
        if interval.start_s >= state.until_s - _SAME_S:  # else it was judged before
            small = _small(interval)
            state = _enter(yardstick, state, evidence, small)
            entered.append(small)
    return state.model_copy(update=tallied(yardstick.tests, yardstick.rules.baseline, state, entered)) if entered else state


def _small(interval: Interval) -> Interval:
    """The same evidence with the bounds that say nothing left out, so that what follows is quick."""
    return interval.model_copy(update={engine: _thin(getattr(interval, engine)) for engine in ("source", "target", "shadow")})


def _thin(counts: Counts) -> Counts:
    if not counts.ttft and not counts.duration:
        return counts
    return counts.model_copy(update={"ttft": thinned(counts.ttft), "duration": thinned(counts.duration)})


def _enter(yardstick: Yardstick, state: JudgeState, evidence: Evidence, interval: Interval) -> JudgeState:
    judge, baseline, shares = yardstick.rules.judge, yardstick.rules.baseline, yardstick.shares
    length_s, ours, theirs = interval.end_s - interval.start_s, interval.target, interval.source
    seen = ours.requests > 0
    started = min(_start(yardstick.rules, state, length_s), state.left) if seen else 0.0
    prior, left = max(_step_prior(yardstick.rules), _LEAST_PRIOR), state.left - started
    spent, unspent = _log(started), _log(left)
    books = dict(state.rollback), dict(state.promote)
    book = _Book(judge, shares, min(shares.values()), state.budget, length_s, prior, spent, unspent, *books)
    where = _Where(evidence.next_share_bp / FULL_BP, compares=evidence.share_bp < FULL_BP, proves=state.since_step_s >= judge.settle)
    shadow = interval.shadow if evidence.boundary == "step" else Counts()
    logs = {"hard": book.against("hard", _hard(judge, ours), capped=False)}
    pair = Pair(ours, theirs, shadow)
    for test in yardstick.tests:
        clustering = baseline.clustering(test.gate, length_s)
        if state.fresh and not where.compares:
            book.forgive(name_of(test))
        if isinstance(test, (ErrorLimit, ErrorRatio)):
            logs[name_of(test)] = _errors(book, test, where, pair, clustering)
        else:
            known = _known(test, state, baseline)
            found = over_limit(test, pair, known) if isinstance(test, SlowLimit) else over_ratio(test, pair, known, where.next_share)
            logs[name_of(test)] = _latency(book, test, where, found.divided(clustering))
    silence, silence_left = _silence(yardstick, state, evidence, interval)
    logs["silence"] = log_add(silence, _log(silence_left))
    weighted = {name: logs[name] + math.log(share) for name, share in shares.items()}
    e_log, strongest = log_sum([*weighted.values()]), max(weighted, key=lambda name: weighted[name])
    condemned = state.condemned or (strongest if e_log >= -math.log(state.budget) else "")
    return state.model_copy(
        update={
            "until_s": interval.end_s,
            "quiet_s": 0.0 if seen else state.quiet_s + length_s,
            "fresh": state.fresh and not seen,
            "left": left,
            "silence": silence,
            "silence_left": silence_left,
            "rollback": book.rollback,
            "promote": book.promote,
            "e_log": e_log,
            "strongest": strongest,
            "condemned": condemned,
            "seconds": state.seconds + (length_s if seen and where.proves else 0.0),
            "since_step_s": state.since_step_s + length_s,
            "requests": state.requests + ours.requests,
            "source_ttft": decayed(state.source_ttft or baseline.ttft, theirs.ttft, length_s / judge.memory),
            "source_duration": decayed(state.source_duration or baseline.duration, theirs.duration, length_s / judge.memory),
        }
    )


def _start(rules: Rules, state: JudgeState, length_s: float) -> float:
    """Prior of a defect that begins now: the first interval of the ramp, of a step, or any other."""
    judge, steps = rules.judge, len(rules.ramp.steps) - 1
    if state.fresh:
        return judge.first_start if state.left >= 1.0 else _step_prior(rules)
    return (1 - judge.first_start - _step_prior(rules) * steps) * length_s / judge.horizon


def _step_prior(rules: Rules) -> float:
    """Each step's part; a ramp of many steps keeps a third of what the first leaves for defects that begin in between."""
    steps = max(1, len(rules.ramp.steps) - 1)
    return min(rules.judge.step_start, (1 - rules.judge.first_start) * 2 / 3 / steps)


def _log(mass: float) -> float:
    return math.log(mass) if mass > 0 else NEVER


def _hard(judge: JudgePlan, ours: Counts) -> list[float]:
    bound = min(max(judge.hard_error_share, 0.01), 0.99)
    return [one_sample(ours.errors, ours.requests, bound, p if p > bound else (1 + bound) / 2) for p in PLAINLY]


def _silence(yardstick: Yardstick, state: JudgeState, evidence: Evidence, interval: Interval) -> tuple[float, float]:
    """Far fewer requests finish on the target than its share: it hangs. Judged only while the source has requests to compare with.

    Not while a share settles: what finishes then began at the share before.
    """
    judge, shares = yardstick.rules.judge, yardstick.shares
    theirs, share = interval.source.requests, evidence.share_bp / FULL_BP
    if theirs <= 0 or not 0 < share < 1 or state.since_step_s < judge.settle:
        return state.silence, state.silence_left
    length_s = interval.end_s - interval.start_s
    started = min(0.5 if state.silence_left >= 1.0 else 0.5 * length_s / judge.horizon, state.silence_left)
    gain = one_sample(interval.target.requests, interval.target.requests + theirs, share / 2, share / 10)
    if judge.blip > 0:
        needed = math.log(2 * judge.horizon / judge.interval / (state.budget * shares["silence"]))
        gain = min(gain, needed * min(length_s, judge.interval) / judge.blip)
    entered = log_add(state.silence, _log(started)) + gain
    return entered, state.silence_left - started


def _known(test: SlowLimit | SlowRatio, state: JudgeState, baseline: Baseline) -> Remembered:
    """The source's latencies from earlier data: this ramp's, else the baseline's."""
    return (state.source_ttft or baseline.ttft) if test.measure == "ttft" else (state.source_duration or baseline.duration)


def _latency(book: _Book, test: SlowLimit | SlowRatio, where: _Where, found: Slow) -> float:
    name = name_of(test)
    worse = two_sample_each(found.bad, found.total, found.source_bad, found.source_total, found.source_rate, UP)
    if isinstance(test, SlowRatio):
        if where.proves:
            kept_bad, kept_total = found.kept_bad, found.kept_total
            book.in_favour(name, two_sample_each(kept_bad, kept_total, found.source_bad, found.source_total, found.source_rate, DOWN))
        return book.against(name, worse)
    log_e = book.against(name, one_sample_each(found.bad, found.total, test.tail, above(test.tail, UP, _HIGHEST_SLOW)))
    blamed = book.against(f"{name}/worse", worse)
    if where.proves:
        staged = min(0.5, test.tail / where.next_share)
        book.in_favour(name, one_sample_each(found.kept_bad, found.kept_total, staged, below(staged, DOWN)))
    return min(log_e, blamed) if where.compares else log_e


def _errors(book: _Book, test: ErrorLimit | ErrorRatio, where: _Where, pair: Pair, clustering: Callable[[float], float]) -> float:
    name = name_of(test)
    ours, theirs = clustering(pair.target.requests), clustering(pair.source.requests)
    bad, total = pair.target.errors / ours, pair.target.requests / ours
    source_bad, source_total = pair.source.errors / theirs, pair.source.requests / theirs
    more = clustering(pair.shadow.requests)
    for_bad, for_total = bad + pair.shadow.errors / more, total + pair.shadow.requests / more
    if isinstance(test, ErrorLimit):
        log_e = book.against(name, one_sample_each(bad, total, test.limit, above(test.limit, UP, _HIGHEST_ERRORS)))
        worse = book.against(f"{name}/worse", [rate_ratio(bad, total, source_bad, source_total, 1.0, g) for g in UP])
        if where.proves:
            staged = min(0.5, test.limit / where.next_share)
            book.in_favour(name, one_sample_each(for_bad, for_total, staged, below(staged, DOWN)))
        return min(log_e, worse) if where.compares else log_e
    over_floor = above(test.floor, OVER_FLOOR, _HIGHEST_ERRORS)
    floor = book.against(f"{name}/floor", one_sample_each(bad, total, test.floor, over_floor))
    up = [rate_ratio(bad, total, source_bad, source_total, test.tolerate, test.tolerate * g) for g in UP]
    if where.proves:
        staged, ratio = min(0.5, test.floor / where.next_share), 1 + (test.reject - 1) / where.next_share
        book.in_favour(f"{name}/floor", one_sample_each(for_bad, for_total, staged, below(staged, DOWN)))
        book.in_favour(name, [rate_ratio(for_bad, for_total, source_bad, source_total, ratio, ratio * g) for g in DOWN])
    return min(book.against(name, up), floor)
