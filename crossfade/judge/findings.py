"""Each gate's row of the verdict: what it saw, what speaks for and against the target, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

from crossfade.judge.evalues import log_add, log_mean
from crossfade.judge.evidence import Blind, Evidence, Reading
from crossfade.judge.histogram import quantile
from crossfade.judge.rules import Yardstick
from crossfade.judge.state import JudgeState, Tally
from crossfade.judge.tally import confidence_sequence
from crossfade.judge.tests_of import ErrorLimit, ErrorRatio, SlowLimit, SlowRatio, Test, name_of
from crossfade.judge.verdict import Decision, Finding
from crossfade.plan.gates import PromqlGate, latency_name
from crossfade.plan.units import format_seconds
from crossfade.rollout.routes import FULL_BP

_SHOWN_ALPHA = 0.05
"""Confidence of the intervals people read; decisions rest on the e-values."""

_LARGEST_LOG = 700.0

Condemned = tuple[str, str]
"""The gate that condemned, and the words."""


def log_for(test: Test, state: JudgeState) -> float:
    """Log e-value in the target's favour at this step; 0 when nothing was counted. The error floor is an alternative to the ratio."""
    ratio = state.promote.get(name_of(test))
    if ratio is None:
        return 0.0
    found = log_mean(ratio)
    floor = state.promote.get(f"{name_of(test)}/floor")
    return found if floor is None else log_add(found, log_mean(floor)) - log(2)


def log_against(test: Test, state: JudgeState, *, compares: bool) -> float:
    """Log e-value against the target over the whole ramp."""
    logs = [_value(state, name_of(test))]
    if isinstance(test, ErrorRatio):
        logs.append(_value(state, f"{name_of(test)}/floor"))
    elif isinstance(test, (ErrorLimit, SlowLimit)) and compares:
        logs.append(_value(state, f"{name_of(test)}/worse"))
    return min(logs)


def gate_findings(yardstick: Yardstick, state: JudgeState, evidence: Evidence) -> list[Finding]:
    """One row for each gate that counts requests, guarding this boundary or not: its evidence against the target counts everywhere."""
    by_gate: dict[str, list[Test]] = {}
    for test in yardstick.tests:
        by_gate.setdefault(test.gate, []).append(test)
    return [_gate_finding(yardstick, state, evidence, gate, tests) for gate, tests in by_gate.items()]


def _gate_finding(yardstick: Yardstick, state: JudgeState, evidence: Evidence, gate: str, tests: list[Test]) -> Finding:
    rules, compares = yardstick.rules, evidence.share_bp < FULL_BP
    judged = [test for test in tests if compares or isinstance(test, (ErrorLimit, SlowLimit))]
    in_favour = {test: log_for(test, state) for test in judged}
    most = max(log_against(test, state, compares=compares) for test in tests)
    decision, reason = _ruling(rules.judge.beta, state, evidence, gate, in_favour)
    if evidence.boundary not in rules.gates[gate].before and decision is Decision.HOLD:
        decision, reason = Decision.PROMOTE, f"not asked before {evidence.boundary}; what speaks against the target counts all the same"
    if not compares and len(judged) < len(tests) and decision is not Decision.ROLL_BACK:
        reason += "; at 100% there is no source to compare with" if judged else ""
    shown = _shown(gate, tests[0], state)
    least = min(in_favour.values(), default=0.0)
    return Finding(gate=gate, decision=decision, reason=reason, evidence_for=_exp(least), evidence_against=_exp(most), **shown)


def _ruling(beta: float, state: JudgeState, evidence: Evidence, gate: str, in_favour: Mapping[Test, float]) -> tuple[Decision, str]:
    if state.condemned and state.condemned.rsplit("/", 1)[0] == gate:
        return Decision.ROLL_BACK, condemnation(state)
    if not in_favour:
        return Decision.PROMOTE, "at 100% there is no source to compare with, and the gate has no limit of its own"
    if evidence.boundary == "soak":
        return Decision.PROMOTE, "nothing condemns the target"
    least = min(in_favour, key=lambda test: in_favour[test])
    if in_favour[least] >= -log(beta):
        return Decision.PROMOTE, "within " + " and ".join(_limit(test, evidence.next_share_bp) for test in in_favour)
    missing = f"evidence {_exp(in_favour[least]):.3g} of {1 / beta:.3g}"
    return Decision.HOLD, f"not yet proven to be within {_limit(least, evidence.next_share_bp)}: {missing}"


def condemnation(state: JudgeState) -> str:
    """Why the target was condemned, in words; empty when it was not."""
    test = state.condemned
    if not test:
        return ""
    words = {"hard": "most requests fail", "silence": "far fewer requests come back from the target than were sent there"}
    gate, _, kind = test.rpartition("/")
    said = words.get(test) or ("over its limit" if kind == "limit" else "worse than the source tolerates")
    seen = state.tallies.get(gate)
    counted = f", {_share(seen.target_bad, seen.target)} at this step" if seen and seen.target else ""
    return f"{said}{counted}; the evidence over the whole ramp passed {1 / state.budget:.3g}"


def _limit(test: Test, next_bp: int) -> str:
    """What has to be excluded before the next share; early steps exclude what would hurt there."""
    share = next_bp / FULL_BP
    staged = f" staged for a share of {next_bp / 100:g}%" if next_bp < FULL_BP else ""
    match test:
        case ErrorLimit(limit=limit):
            return f"{100 * min(0.5, limit / share):.3g}% errors{staged}"
        case ErrorRatio(reject=reject):
            return f"{1 + (reject - 1) / share:.3g}x the source's errors{staged}"
        case SlowLimit(tail=tail, limit_ms=limit_ms):
            return f"{100 * min(0.5, tail / share):.3g}% over {format_seconds(limit_ms / 1000)}{staged}"
        case SlowRatio(tail=tail, reject=reject):
            return f"{1 + (reject - 1) / share:.3g}x the source's p{100 * (1 - tail):g}{staged}"


def _shown(gate: str, test: Test, state: JudgeState) -> dict[str, str | float]:
    seen = state.tallies.get(gate, Tally())
    within = confidence_sequence(seen.target_bad, seen.target, _SHOWN_ALPHA)
    said = {"source": _share(seen.source_bad, seen.source), "target": _share(seen.target_bad, seen.target)}
    if isinstance(test, (SlowLimit, SlowRatio)):
        q = latency_name(gate)[1]
        for engine, histograms in (("source", state.seen_source), ("target", state.seen_target)):
            found = quantile(histograms.get(test.measure, ()), q)
            if found.estimate_ms == found.estimate_ms:
                said[engine] = f"{_ms(found.estimate_ms)}; {said[engine]} slower than its bound"
    return {**said, "interval": str(within) if seen.target else "", "low": within.low, "high": within.high}


def promql_finding(name: str, gate: PromqlGate, evidence: Evidence) -> Finding:
    """An instant gate: one number on the right side of its limit, outside the error budget."""
    reading = next((reading for reading in evidence.readings if reading.gate == name), Blind(gate=name, why="it was not read"))
    if isinstance(reading, Blind):
        return Finding(gate=name, decision=Decision.HOLD, reason=f"blind: {reading.why}")
    limit = f"below {gate.below:g}" if gate.below is not None else f"above {gate.above:g}"
    breached = Decision.ROLL_BACK if gate.breach == "roll_back" else Decision.HOLD
    if not (reading.value == reading.value and abs(reading.value) != float("inf")):
        return Finding(gate=name, decision=Decision.HOLD, reason=f"blind: {reading.value:g} is no number to judge")
    decision = Decision.PROMOTE if _kept(gate, reading) else breached
    return Finding(gate=name, decision=decision, reason=f"{reading.value:g}, must be {limit}", target=f"{reading.value:g}")


def _kept(gate: PromqlGate, reading: Reading) -> bool:
    if gate.below is not None:
        return reading.value < gate.below
    return gate.above is not None and reading.value > gate.above


def watch_finding(name: str, state: JudgeState) -> Finding:
    """The row of a test no gate asked for: hard errors, silence."""
    against = _value(state, name) if name == "hard" else log_add(state.silence, _log(state.silence_left))
    if state.condemned == name:
        return Finding(gate=name, decision=Decision.ROLL_BACK, reason=condemnation(state), evidence_against=_exp(against))
    return Finding(gate=name, decision=Decision.PROMOTE, reason="nothing of it", evidence_against=_exp(against))


def _value(state: JudgeState, name: str) -> float:
    logs = state.rollback.get(name)
    return 0.0 if logs is None else log_add(log_mean(logs), _log(state.left))


def _log(mass: float) -> float:
    return log(mass) if mass > 0 else -1e9


def _exp(value: float) -> float:
    return exp(min(value, _LARGEST_LOG))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g}% ({part} of {whole})" if whole else "none seen"


def _ms(value: float) -> str:
    return "beyond the last bound" if value == float("inf") else f"{value:.4g}ms"
