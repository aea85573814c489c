"""Ask the gates of one boundary: gather evidence, judge it, and write the ruling down before anybody acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.errors import GateFailed
from crossfade.judge.evidence import Blind, Evidence
from crossfade.judge.gate import judge
from crossfade.judge.verdict import Decision, Verdict
from crossfade.plan.gates import Boundary, Gate, PromqlGate
from crossfade.ramp.logbook import Desk, Ruling
from crossfade.rollout.names import route_name
from crossfade.rollout.state import MigrationState

SEES_TRAFFIC = frozenset({"ramp", "step", "cutover", "soak"})
"""Boundaries at which the router's counters must be readable even when no gate counts them: blindness there holds."""

LOOK_BACK_S = 1800.0
"""Longest span one ruling reads and stores: a soak lasts a day, and each of its ticks is journaled with its evidence."""


@dataclass(frozen=True)
class Ruled:
    """A verdict and the evidence it rests on, for artifacts."""

    verdict: Verdict
    evidence: Evidence


def gates_at(gates: Mapping[str, Gate], boundary: Boundary) -> dict[str, Gate]:
    """The gates that guard `boundary`."""
    return {name: gate for name, gate in gates.items() if boundary in gate.before}


def rule(desk: Desk, state: MigrationState, boundary: Boundary) -> Ruled:
    """Judge a boundary on everything since the share last moved, and journal the ruling."""
    evidence = _gather(desk, state, boundary)
    verdict = judge(desk.plan.gates, desk.plan.ramp, evidence)
    gates = gates_at(desk.plan.gates, boundary)
    desk.write(state, "decision", boundary, Ruling(gates=gates, ramp=desk.plan.ramp, evidence=evidence, verdict=verdict))
    return Ruled(verdict, evidence)


def pass_boundary(desk: Desk, state: MigrationState, boundary: Boundary, *, patience_s: float, poll_s: float = 2.0) -> Ruled:
    """Wait at a boundary where no traffic has moved yet until its gates promote.

    Raises GateFailed when one says stop, or when it still holds after `patience_s` seconds. Only the last ruling of a wait
    differs from the one before it in what follows, but each is journaled: a hold is a decision too.
    """
    give_up_s = desk.clock.now_s() + patience_s
    while True:
        ruled = rule(desk, state, boundary)
        if ruled.verdict.decision is Decision.PROMOTE:
            return ruled
        if ruled.verdict.decision is Decision.ROLL_BACK:
            raise GateFailed(f"{state.name}: the gate before {boundary} says stop: {ruled.verdict.reason}. {ruled.verdict.next_action}")
        if desk.clock.now_s() + poll_s > give_up_s:
            raise GateFailed(
                f"{state.name}: the gate before {boundary} still holds after {patience_s:.0f} s: {ruled.verdict.reason}. "
                "Nothing was moved. Mend what it names, or change the gate, and start again."
            )
        desk.clock.sleep(poll_s)


def _gather(desk: Desk, state: MigrationState, boundary: Boundary) -> Evidence:
    now_s = desk.clock.now_s()
    guarding = gates_at(desk.plan.gates, boundary)
    readings = tuple(desk.metrics.read(name, gate.promql) for name, gate in guarding.items() if isinstance(gate, PromqlGate))
    held_s = now_s - state.share_since_s
    if boundary not in SEES_TRAFFIC and all(isinstance(gate, PromqlGate) for gate in guarding.values()):
        return Evidence(boundary=boundary, held_s=held_s, readings=readings)
    since_s = max(state.share_since_s, now_s - LOOK_BACK_S)
    found = desk.metrics.intervals(route_name(state.name), since_s=since_s, now_s=now_s)
    if isinstance(found, Blind):
        return Evidence(boundary=boundary, held_s=held_s, readings=readings, blind=found.why)
    return Evidence(boundary=boundary, held_s=held_s, readings=readings, intervals=tuple(found))
