"""What the ramp will ask for and how long it will take, before the first user moves; and which gates could never pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossfade.judge.estimate import Estimate, StepEstimate, estimate
from crossfade.judge.evidence import Blind, Measure, Refused
from crossfade.judge.preflight import too_coarse
from crossfade.judge.rules import Rules
from crossfade.plan.gates import Boundary, Gate, PromqlGate
from crossfade.plan.units import format_seconds, format_share
from crossfade.ports import Metrics
from crossfade.ramp.logbook import Desk
from crossfade.ramp.rulebook import rules_of
from crossfade.rollout.names import route_name
from crossfade.rollout.state import MigrationState

HEADER = ("step", "next", "requests on the target", "time", "what takes longest")

_RAMP: frozenset[Boundary] = frozenset({"ramp", "step", "cutover", "soak"})


@dataclass(frozen=True)
class Foreseen:
    """The estimate as a table, gates that can never pass with what to write instead, and what else a person should know."""

    summary: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    refused: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def foresee_ramp(desk: Desk, state: MigrationState) -> Foreseen:
    """The ramp of this attempt, by its own baseline and the Prometheus that will judge it."""
    rules, _ = rules_of(desk, state)
    refused, unseen = gates_that_cannot_pass(desk.metrics, rules, route_name(state.name))
    foreseen = as_table(rules, rules.baseline.requests_per_s)
    warnings = (*foreseen.warnings, *([rules.baseline.widened] if rules.baseline.widened else []), *unseen)
    return Foreseen(foreseen.summary, HEADER, foreseen.rows, refused, (*warnings, *_unseen_start(desk)))


def _unseen_start(desk: Desk) -> tuple[str, ...]:
    found = desk.metrics.read("target_started", desk.plan.target_started)
    if not isinstance(found, Blind):
        return ()
    return (
        f"When the target was started cannot be read now: {found.why}. While that is so, a restart of it does not begin the ramp anew. "
        f"Let Prometheus scrape {desk.plan.target.address} under the job vllm, or write prometheus.target_started in the plan.",
    )


def gates_that_cannot_pass(metrics: Metrics, rules: Rules, route: str) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Gates of the ramp refused with what to write instead, and a sentence for each that nobody can see right now."""
    refused, unseen = [], []
    for name, gate in rules.gates.items():
        if isinstance(gate, PromqlGate) and _RAMP & set(gate.before):
            found = metrics.probe(name, gate.promql)
            if isinstance(found, Refused):
                refused.append((name, found.why))
            elif isinstance(found, Blind):
                unseen.append(f"{name} cannot be read now: {found.why}")
    bounds: dict[Measure, Sequence[float]] = {}
    for measure in _measures(rules.gates):
        seen = metrics.bounds(route, measure)
        if isinstance(seen, Blind):
            unseen.append(f"the bounds of {measure} cannot be read now: {seen.why}")
        else:
            bounds[measure] = seen
    coarse = too_coarse(rules.gates, rules.judge, bounds, rules.baseline) if bounds else ()
    refused += [(one.gate, one.why.removeprefix(f"{one.gate}: ")) for one in coarse if _measure(one.gate) in bounds]
    return tuple(refused), tuple(unseen)


def doubts(metrics: Metrics, rules: Rules, route: str) -> tuple[str, ...]:
    """What would stop the ramp if it began now, a sentence each. Long before it, none of that is wrong for certain.

    A name nobody has seen may be exported by what starts together with the target, so nothing is refused yet.
    """
    refused, unseen = gates_that_cannot_pass(metrics, rules, route)
    named = (f"The ramp would be refused for its gate {gate}, unless that changes until the target runs: {why}" for gate, why in refused)
    return (*named, *unseen)


def as_table(rules: Rules, requests_per_s: float) -> Foreseen:
    """Each step's requests and time at so many requests a second, what is too slow, and what would help."""
    found = estimate(rules, requests_per_s)
    rows = tuple(_row(step) for step in found.steps)
    late = [step for step in found.steps if not step.in_time]
    warnings = [f"The step at {format_share(step.share_bp)} is not expected to end before its deadline." for step in late]
    if late or found.seconds > _LONG_S:
        warnings += [f"With {one.what} the whole ramp would take about {_time(one.seconds)}." for one in found.helps[:3]]
    return Foreseen(_summary(found, requests_per_s), HEADER, rows, warnings=tuple(warnings))


_LONG_S = 4 * 3600.0
"""From here on a person may want to hear what would help."""


def _summary(found: Estimate, requests_per_s: float) -> str:
    if not requests_per_s:
        return "no traffic was seen, so no step can be foreseen: a ramp without requests holds"
    return (
        f"about {_time(found.seconds)} to 100 % at {requests_per_s:.3g} requests a second for a target as good as the source "
        f"(half of all ramps take longer); rests on {found.rests_on}"
    )


def _row(step: StepEstimate) -> tuple[str, ...]:
    late = "" if step.in_time else " (after the deadline)"
    return (
        format_share(step.share_bp),
        format_share(step.next_share_bp),
        f"{step.requests:,.0f}",
        _time(step.seconds) + late,
        step.binding,
    )


def _time(seconds: float) -> str:
    return "for ever" if math.isinf(seconds) else format_seconds(float(round(seconds)))


def _measures(gates: Mapping[str, Gate]) -> list[Measure]:
    found: list[Measure] = []
    for name in gates:
        measure = _measure(name)
        if measure and measure not in found and not isinstance(gates[name], PromqlGate):
            found.append(measure)
    return found


def _measure(gate: str) -> Measure | None:
    if gate.startswith("ttft_"):
        return "ttft"
    return "duration" if gate.startswith("duration_") else None
