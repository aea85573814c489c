"""How long a ramp will take: requests and time per step for a target that is exactly as good as the source.

Evidence in favour grows by a known amount a request, the divergence between what is there and what must be excluded; a step is done
when it reaches log(1/beta) and what the mixture of alternatives costs. These are means: half of all ramps take longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, log
from statistics import NormalDist

from crossfade.judge.baseline import Baseline
from crossfade.judge.evalues import DOWN, one_sample
from crossfade.judge.histogram import slower_than, total
from crossfade.judge.latencies import percentile_bound
from crossfade.judge.rules import Rules
from crossfade.judge.tests_of import ErrorLimit, ErrorRatio, SlowLimit, SlowRatio, Test, tests_of
from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate
from crossfade.plan.units import format_seconds, format_share
from crossfade.rollout.routes import FULL_BP

_ASSUMED_SIGMA = 0.8
"""Spread of a lognormal latency, taken where no baseline says better; that of the simulation behind the defaults."""

_SAME = 1e-9


@dataclass(frozen=True)
class StepEstimate:
    """One step: requests the target needs, what takes longest, and seconds; infinite where nothing can prove it."""

    share_bp: int
    next_share_bp: int
    requests: float
    seconds: float
    binding: str
    in_time: bool


@dataclass(frozen=True)
class Help:
    """A change of the plan, and the seconds the whole ramp would take with it."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """All steps before 100 %, what would help (best first), and what the numbers rest on."""

    steps: tuple[StepEstimate, ...]
    helps: tuple[Help, ...]
    rests_on: str

    @property
    def seconds(self) -> float:
        """Until 100 %."""
        return sum(step.seconds for step in self.steps)


def estimate(rules: Rules, requests_per_s: float) -> Estimate:
    """The ramp of these rules at so many requests a second of both engines together."""
    steps = _steps(rules, requests_per_s)
    whole = sum(step.seconds for step in steps)
    helps = [Help(what, sum(step.seconds for step in _steps(other, requests_per_s))) for what, other in _variants(rules)]
    quicker = sorted(
        (one for one in helps if one.seconds < 0.9 * whole or (whole == inf and one.seconds < inf)), key=lambda one: one.seconds
    )
    seen = rules.baseline
    rests_on = (
        f"{seen.requests} requests of the source in {format_seconds(round(seen.seconds))}" if seen.requests else "no baseline: assumed"
    )
    return Estimate(steps, tuple(quicker), rests_on)


def _steps(rules: Rules, requests_per_s: float) -> tuple[StepEstimate, ...]:
    shares = rules.ramp.steps
    return tuple(_step(rules, requests_per_s, share, after) for share, after in pairwise(shares))


def _step(rules: Rules, requests_per_s: float, share_bp: int, next_bp: int) -> StepEstimate:
    judge, ramp, share = rules.judge, rules.ramp, share_bp / FULL_BP
    boundary = "cutover" if next_bp == FULL_BP else "step"
    rate = requests_per_s * share
    if rate <= 0:
        return StepEstimate(share_bp, next_bp, inf, inf, "no traffic", in_time=False)
    chance = 1 - exp(-rate * judge.interval)  # of an interval with requests: only those count as time with evidence
    seconds = max(ramp.hold, ramp.min_requests / rate, judge.min_evidence / chance + judge.settle)
    requests, binding = float(ramp.min_requests), "the shortest time of a step"
    for test in tests_of(rules.gates, judge):
        if boundary not in rules.gates[test.gate].before:
            continue
        mirrored = boundary == "step" and not (isinstance(test, (SlowLimit, SlowRatio)) and test.measure == "ttft")
        evidence_rate = rate + (requests_per_s * ramp.shadow / FULL_BP if mirrored else 0.0)
        crowd = rules.baseline.clustering(test.gate, judge.interval)(evidence_rate * judge.interval)
        needed = crowd * requests_needed(test, rules.baseline, beta=judge.beta, share=share, next_share=next_bp / FULL_BP)
        takes = needed / evidence_rate + judge.settle
        if takes > seconds:
            seconds, requests, binding = takes, needed, test.gate
    return StepEstimate(share_bp, next_bp, requests, seconds, binding, in_time=seconds <= ramp.deadline)


def requests_needed(test: Test, baseline: Baseline, *, beta: float, share: float, next_share: float) -> float:
    """Requests on the target until one test is proven, when its rates are the source's; infinite when they never prove it."""
    need = -log(beta) + log(len(DOWN))
    match test:
        case ErrorLimit(limit=limit):
            return need / _growth(_errors(baseline, limit), min(0.5, limit / next_share))
        case ErrorRatio(reject=reject, floor=floor):
            rate, ratio = _errors(baseline, 4 * floor), 1 + (reject - 1) / next_share
            blend = ratio * share + 1 - share
            by_ratio = max(rate * (log(g) + log(blend / (ratio * g * share + 1 - share)) / share) for g in DOWN)
            return (need + log(2)) / max(by_ratio, _growth(rate, min(0.5, floor / next_share)))
        case SlowLimit(tail=tail, limit_ms=limit_ms, measure=measure):
            seen = baseline.ttft if measure == "ttft" else baseline.duration
            over = slower_than(seen, limit_ms).at_most / total(seen) if seen else tail / 2
            return need / _growth(over, min(0.5, tail / next_share))
        case SlowRatio():
            theirs, ours = _beyond(test, baseline, 1 + (test.reject - 1) / next_share)
            return need / max(_TINY, *(_two_growth(ours, theirs, share, g) for g in DOWN))


_TINY = 1e-300


def _errors(baseline: Baseline, limit: float) -> float:
    """The source's error share; without a baseline half of what is allowed."""
    return baseline.error_share if baseline.requests else limit / 2


def _growth(rate: float, bound: float) -> float:
    """Mean evidence a request against a rate of `bound` or more."""
    return max(_TINY, *(one_sample(rate, 1.0, bound, bound * g) for g in DOWN))


def _two_growth(ours: float, theirs: float, share: float, odds: float) -> float:
    odd = odds * theirs / (1 - theirs)
    better = odd / (1 + odd)
    both = share * better + (1 - share) * theirs
    return one_sample(ours, 1.0, both, better) + (1 - share) / share * one_sample(theirs, 1.0, both, theirs)


def _beyond(test: SlowRatio, baseline: Baseline, factor: float) -> tuple[float, float]:
    """Shares of the source's requests beyond its own percentile, and beyond `factor` times that by the histogram's bounds."""
    seen = baseline.ttft if test.measure == "ttft" else baseline.duration
    bound_ms = percentile_bound(seen, 1 - test.tail)
    if not seen or bound_ms == inf:
        normal = NormalDist()
        return test.tail, 1 - normal.cdf(normal.inv_cdf(1 - test.tail) + log(factor) / _ASSUMED_SIGMA)
    every = total(seen)
    theirs = min(max(slower_than(seen, bound_ms).at_least / every, 1e-3), 0.999)
    return theirs, slower_than(seen, factor * bound_ms * (1 + _SAME)).at_most / every


def _variants(rules: Rules) -> list[tuple[str, Rules]]:
    """Plans that ask for less, or see more."""
    ramp, steps = rules.ramp, rules.ramp.steps
    found = []
    if ramp.shadow < FULL_BP and len(steps) > 2:
        found.append(("shadow: 100%", rules.model_copy(update={"ramp": ramp.model_copy(update={"shadow": FULL_BP})})))
    if len(steps) > 3:
        larger = tuple(dict.fromkeys((max(steps[0], 1000), 5000, FULL_BP)))
        said = f"steps: [{', '.join(format_share(step) for step in larger)}]"
        found.append((said, rules.model_copy(update={"ramp": ramp.model_copy(update={"steps": larger})})))
    if any(_compares(gate) for gate in rules.gates.values()):
        found.append(("no_worse_than_source twice as far from the source", rules.model_copy(update={"gates": _wider(rules.gates)})))
    return found


def _compares(gate: Gate) -> bool:
    return isinstance(gate, (ErrorRateGate, LatencyGate)) and gate.no_worse_than_source is not None


def _wider(gates: Mapping[str, Gate]) -> dict[str, Gate]:
    wider = dict(gates)
    for name, gate in gates.items():
        if isinstance(gate, (ErrorRateGate, LatencyGate)) and gate.no_worse_than_source is not None:
            further = 2 * gate.no_worse_than_source - 1
            wider[name] = gate.model_copy(update={"no_worse_than_source": further, "tolerate": gate.tolerated})
    return wider
