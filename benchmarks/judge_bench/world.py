"""What happens to two engines behind a router, 15 s at a time.

Arrivals, waves, bursts and drift are drawn before the first decision and are the same for every rule. What becomes of each request is
drawn as it goes, because rules route differently.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from judge_bench.latency import BOUNDS_MS, Floats, Latency
from judge_bench.scenario import Scenario, Span

INTERVAL_S = 15.0
Ints = NDArray[np.int64]

_ARRIVALS, _BASELINE, _OUTCOMES = 1, 2, 3


@dataclass(frozen=True)
class Arm:
    """Counts of one engine, one row per interval. `timed` has a column per bucket and counts answers only."""

    requests: Ints
    errors: Ints
    timed: Ints


@dataclass(frozen=True)
class Seen:
    """Consecutive intervals as the router counted them. Where `visible` is false Prometheus could not be read at the interval's end."""

    start_s: float
    source: Arm
    target: Arm
    visible: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.visible)


@dataclass(frozen=True)
class Setting:
    """What a rule's decisions made of the ramp: the target's share, and since when."""

    share: float
    changed_s: float


class World:
    """One replication of a scenario. `passed` returns what a rule may know and keeps score of what users suffered."""

    def __init__(self, scenario: Scenario, *, seed: int, replication: int, horizon_s: float, slow_ms: float) -> None:
        self._scenario = scenario
        self._key = (seed, zlib.crc32(scenario.name.encode()), replication)
        arrivals = np.random.default_rng((*self._key, _ARRIVALS))
        self.baseline_intervals = round(scenario.baseline_s / INTERVAL_S)
        ahead = round(horizon_s / INTERVAL_S)
        self._at_s = np.arange(-self.baseline_intervals, ahead) * INTERVAL_S
        self._wave = scenario.waves * np.sin(2 * np.pi * (self._at_s / scenario.waves_period_s + arrivals.random()))
        rate = np.maximum(scenario.rps * INTERVAL_S * (1 + 0.5 * self._wave), 0)
        if scenario.burst_cv2:
            rate = rate * arrivals.gamma(1 / scenario.burst_cv2, scenario.burst_cv2, size=len(rate))
        rate[within(self._at_s, scenario.quiet)] = 0
        self._arrivals = arrivals.poisson(rate)
        self._drift = {arm: _wander(arrivals, scenario, len(rate)) for arm in ("source", "target")}
        self._visible = ~within(self._at_s, scenario.blind)
        self._outcomes = np.random.default_rng((*self._key, _OUTCOMES))
        self._latency = _latencies(scenario)
        self._slow_from = np.searchsorted(BOUNDS_MS[scenario.bounds], slow_ms - 1e-9) + 1
        self.target_requests = 0
        self.target_bad = 0

    def baseline(self) -> Seen:
        """What was counted before the ramp; the same for every rule."""
        rng = np.random.default_rng((*self._key, _BASELINE))
        span = slice(0, self.baseline_intervals)
        nothing = np.zeros(self.baseline_intervals)
        source = self._arm(rng, "source", span, self._arrivals[span], share=1.0, defect=nothing, cold=nothing)
        none = np.zeros(self.baseline_intervals, dtype=np.int64)
        return Seen(-self._scenario.baseline_s, source, Arm(none, none, np.zeros_like(source.timed)), np.ones(len(none), dtype=bool))

    def passed(self, first: int, count: int, setting: Setting) -> Seen:
        """The `count` intervals from number `first` of the ramp, lived through with this share."""
        span = slice(self.baseline_intervals + first, self.baseline_intervals + first + count)
        at_s, everything, rng = self._at_s[span], self._arrivals[span], self._outcomes
        to_target = rng.binomial(everything, setting.share)
        defect = self._defect(at_s, setting.share)
        cold = ((at_s - setting.changed_s) < self._scenario.cold_s).astype(float)
        target = self._arm(rng, "target", span, to_target, share=setting.share, defect=defect, cold=cold)
        nothing = np.zeros(count)
        source = self._arm(rng, "source", span, everything - to_target, share=1 - setting.share, defect=nothing, cold=nothing)
        silent = at_s >= (np.inf if self._scenario.silent_from_s is None else self._scenario.silent_from_s)
        self._keep_score(target, silent)
        if silent.any():
            heard = ~silent
            target = Arm(target.requests * heard, target.errors * heard, target.timed * heard[:, np.newaxis])
        return Seen(first * INTERVAL_S, source, target, self._visible[span])

    def is_defective(self, at_s: float, share: float) -> bool:
        """Whether what is wrong with a bad target was there to be seen at that moment."""
        silent_from_s = self._scenario.silent_from_s
        began_s = self._scenario.defect_from_s if silent_from_s is None else silent_from_s
        return at_s > began_s and share >= self._scenario.defect_from_share

    def _defect(self, at_s: Floats, share: float) -> Floats:
        """How much of the defect is there, 0..1."""
        if share < self._scenario.defect_from_share:
            return np.zeros(len(at_s))
        since_s = at_s - self._scenario.defect_from_s
        grows_s = self._scenario.defect_grows_s
        return np.clip(since_s / grows_s, 0, 1) if grows_s else (since_s >= 0).astype(float)

    def _arm(
        self,
        rng: np.random.Generator,
        arm: Literal["source", "target"],
        span: slice,
        requests: Ints,
        *,
        share: float,
        defect: Floats,
        cold: Floats,
    ) -> Arm:
        scenario, wave = self._scenario, self._wave[span]
        failing = scenario.error_rate * (1 + 0.4 * wave) * (1 + (scenario.errors_x - 1) * defect)
        factor = (1 + 0.2 * wave) * np.exp(self._drift[arm][span]) * (1 + scenario.load * (share - 1))
        factor = factor * (1 + (scenario.ttft_x - 1) * defect) * (1 + (scenario.cold_x - 1) * cold)
        for fault in scenario.fault:
            if fault.hits(arm):
                during = within(self._at_s[span], (fault,))
                factor = np.where(during, factor * fault.ttft_x, factor)
                failing = failing if fault.errors is None else np.where(during, fault.errors, failing)
        errors = self._errors(rng, requests, np.clip(failing, 0, 1))
        latency = self._latency["broken" if defect.any() else "sound"]
        return Arm(requests, errors, rng.multinomial(requests - errors, latency.shares(factor)))

    def _errors(self, rng: np.random.Generator, requests: Ints, failing: Floats) -> Ints:
        icc = self._scenario.error_icc
        if icc:
            spread = 1 / icc - 1
            failing = rng.beta(np.maximum(failing * spread, 1e-9), np.maximum((1 - failing) * spread, 1e-9))
        return rng.binomial(requests, failing)

    def _keep_score(self, target: Arm, silent: NDArray[np.bool_]) -> None:
        slow = target.timed[:, self._slow_from :].sum(axis=1)
        self.target_requests += int(target.requests.sum())
        self.target_bad += int(np.where(silent, target.requests, target.errors + slow).sum())


def within(at_s: Floats, spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which of the intervals that begin at these moments lie in one of the spans."""
    inside = np.zeros(len(at_s), dtype=bool)
    for span in spans:
        inside |= (at_s >= span.from_s) & (at_s < span.from_s + span.for_s)
    return inside


def _latencies(scenario: Scenario) -> dict[str, Latency]:
    sound = Latency(scenario.ttft_p95_ms, scenario.sigma, scenario.bounds)
    broken = Latency(
        scenario.ttft_p95_ms,
        scenario.target_sigma or scenario.sigma,
        scenario.bounds,
        tail_share=scenario.tail_share,
        tail_x=scenario.tail_x,
    )
    return {"sound": sound, "broken": broken}


def _wander(rng: np.random.Generator, scenario: Scenario, count: int) -> Floats:
    """An AR(1) path of log latency in its stationary state, with zero mean of its logarithm."""
    if not scenario.drift_sd:
        return np.zeros(count)
    keeps = float(np.exp(-INTERVAL_S / scenario.drift_memory_s))
    steps = (rng.standard_normal(count) * scenario.drift_sd * (1 - keeps**2) ** 0.5).tolist()
    level, path = float(rng.standard_normal()) * scenario.drift_sd, list[float]()
    for step in steps:
        level = keeps * level + step
        path.append(level)
    return np.array(path)
