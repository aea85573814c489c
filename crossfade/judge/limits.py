"""One gate that counts requests, judged: error rate and latency percentiles.

Three rules keep small samples from deciding (the interval arithmetic of a later version replaces them behind `Limits`):

* Promotion needs `min_requests` requests, and every limit of the gate kept.
* Condemnation needs at least `CONDEMN_BAD` bad requests and a quarter of `min_requests`, so that a plain breach does not wait for the
  full sample, and one unlucky request in ten decides nothing. Before `min_requests` a latency share must be twice what is allowed.
* A percentile is condemned against the source only when one and a half times the allowed share of requests is surely slower than it
  may be: percentiles of few requests jump where answers are of two kinds, and bounds are a tenth apart.
* What lies in between holds.

The source's error share is taken as no less than one error more than it had: a source without a single error in 300 requests
has not been shown to be better than 1 in 300.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from crossfade.judge.evidence import Counts, Histogram
from crossfade.judge.histogram import Quantile, quantile, slower_than, total
from crossfade.judge.verdict import Decision, Finding
from crossfade.plan.gates import ErrorRateGate, LatencyGate, latency_name
from crossfade.plan.units import format_seconds

CONDEMN_BAD = 3
_PLAIN = 1.5


@dataclass(frozen=True)
class Limits:
    """The sample the rules ask for. A silent source holds a gate that only compares, unless `source_may_be_silent` (at 100 %)."""

    min_requests: int
    source_may_be_silent: bool

    @property
    def condemn_requests(self) -> float:
        """Requests from which on a plain breach rolls back."""
        return self.min_requests / 4

    def for_gate(self, gate: ErrorRateGate | LatencyGate) -> Limits:
        """The same for a gate that need not compare, because it has a limit of its own."""
        return replace(self, source_may_be_silent=self.source_may_be_silent or gate.at_most is not None)


@dataclass(frozen=True)
class _Ruling:
    """What one limit of a gate says."""

    decision: Decision
    reason: str


def judge_error_rate(name: str, gate: ErrorRateGate, limits: Limits, source: Counts, target: Counts) -> Finding:
    """The share of failed requests against the gate's limits."""
    rulings = [_too_few(target.requests, limits)]
    if gate.at_most is not None:
        rulings.append(_errors_over(gate.at_most, f"{100 * gate.at_most:.3g}%", limits, target))
    if gate.no_worse_than_source is not None:
        rulings += _errors_against_source(gate.no_worse_than_source, limits.for_gate(gate), source, target)
    return _finding(name, rulings, _share(source.errors, source.requests), _share(target.errors, target.requests))


def judge_latency(name: str, gate: LatencyGate, limits: Limits, source: Counts, target: Counts) -> Finding:
    """A latency percentile against the gate's limits; `name` says which (`ttft_p95`)."""
    measure, q = latency_name(name)
    ours, theirs = target.histogram(measure), source.histogram(measure)
    rulings = [_too_few(total(ours), limits)]
    if gate.at_most is not None:
        rulings.append(_slower_than(gate.at_most, q, limits, ours))
    if gate.no_worse_than_source is not None:
        rulings += _slower_than_source(gate.no_worse_than_source, q, limits.for_gate(gate), theirs, ours)
    return _finding(name, rulings, _about(quantile(theirs, q), total(theirs)), _about(quantile(ours, q), total(ours)))


def _too_few(requests: int, limits: Limits) -> _Ruling:
    if requests < limits.min_requests:
        return _Ruling(Decision.HOLD, f"{requests} of {limits.min_requests} requests so far")
    return _Ruling(Decision.PROMOTE, "")


def _errors_over(limit: float, said: str, limits: Limits, target: Counts) -> _Ruling:
    share = _share(target.errors, target.requests)
    if target.errors <= limit * target.requests:
        return _Ruling(Decision.PROMOTE, f"errors {share} within {said}")
    if target.errors >= CONDEMN_BAD and target.requests >= limits.condemn_requests:
        return _Ruling(Decision.ROLL_BACK, f"errors {share} over {said}")
    return _Ruling(Decision.HOLD, f"errors {share} over {said}, too few to condemn")


def _errors_against_source(factor: float, limits: Limits, source: Counts, target: Counts) -> list[_Ruling]:
    if source.requests < limits.min_requests:
        return [_no_comparison(source.requests, limits)]
    allowed = factor * (source.errors + 1) / (source.requests + 1)
    said = f"{100 * allowed:.3g}%, {factor:g}x the source's share"
    return [_errors_over(allowed, said, limits, target)]


def _slower_than(limit_ms: float, q: float, limits: Limits, ours: Histogram) -> _Ruling:
    slower, tail = slower_than(ours, limit_ms), 1 - q
    said = f"{format_seconds(limit_ms / 1000)}, {100 * tail:.3g}% allowed"
    if slower.at_most <= tail * slower.total + 1e-9:
        return _Ruling(Decision.PROMOTE, f"{_share(slower.at_most, slower.total)} over {said}")
    plain = tail if slower.total >= limits.min_requests else 2 * tail
    enough = slower.at_least >= CONDEMN_BAD and slower.total >= limits.condemn_requests
    if enough and slower.at_least > plain * slower.total + 1e-9:
        return _Ruling(Decision.ROLL_BACK, f"{_share(slower.at_least, slower.total)} over {said}")
    if slower.at_least == slower.at_most:
        return _Ruling(Decision.HOLD, f"{_share(slower.at_least, slower.total)} over {said}, too few to condemn")
    return _Ruling(
        Decision.HOLD, f"between {slower.at_least} and {slower.at_most} of {slower.total} over {said}: no histogram bound is that fine"
    )


def _slower_than_source(factor: float, q: float, limits: Limits, theirs: Histogram, ours: Histogram) -> list[_Ruling]:
    if total(theirs) < limits.min_requests:
        return [_no_comparison(total(theirs), limits)]
    if not total(ours):
        return []
    target, source = quantile(ours, q), quantile(theirs, q)
    said = f"{_ms(target.estimate_ms)} against {_ms(source.estimate_ms)} of the source, {factor:g}x allowed"
    if math.isinf(source.estimate_ms):
        return [_Ruling(Decision.HOLD, f"the source's percentile is beyond the last histogram bound {_ms(source.low_ms)}")]
    if target.estimate_ms <= factor * source.estimate_ms:
        return [_Ruling(Decision.PROMOTE, said)]
    surely_slower = slower_than(ours, factor * source.high_ms).at_least
    if total(ours) >= limits.min_requests and surely_slower > _PLAIN * (1 - q) * total(ours):
        return [_Ruling(Decision.ROLL_BACK, said)]
    return [_Ruling(Decision.HOLD, f"{said}: over it, but not plainly")]


def _no_comparison(requests: int, limits: Limits) -> _Ruling:
    reason = f"no comparison: the source has {requests} of {limits.min_requests} requests in the same time"
    decision = Decision.PROMOTE if limits.source_may_be_silent else Decision.HOLD
    return _Ruling(decision, reason)


def _finding(name: str, rulings: list[_Ruling], source: str, target: str) -> Finding:
    decision = worst([ruling.decision for ruling in rulings])
    said = [ruling.reason for ruling in rulings if ruling.decision is decision and ruling.reason]
    return Finding(gate=name, decision=decision, reason="; ".join(said), source=source, target=target)


def worst(decisions: list[Decision]) -> Decision:
    """The decision that wins: any roll-back, else any hold, else promote."""
    for decision in (Decision.ROLL_BACK, Decision.HOLD):
        if decision in decisions:
            return decision
    return Decision.PROMOTE


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g}% ({part} of {whole})" if whole else "none seen"


def _about(found: Quantile, seen: int) -> str:
    return f"{_ms(found.estimate_ms)} (of {seen})" if seen else "none seen"


def _ms(value: float) -> str:
    return "beyond the last bound" if math.isinf(value) else f"{value:.4g}ms"
