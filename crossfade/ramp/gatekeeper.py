"""Ask the gates of one boundary: gather evidence, judge it, and write the ruling down before anybody acts on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossfade.errors import GateFailed, StaleWriter
from crossfade.failpoints import reach
from crossfade.judge.evidence import Blind, Evidence, Interval
from crossfade.judge.gate import judge
from crossfade.judge.state import JudgeState
from crossfade.judge.verdict import Decision, Verdict
from crossfade.plan.gates import MEASURES, Boundary, Gate, LatencyGate, Measure, PromqlGate, latency_name
from crossfade.ports import Metrics
from crossfade.ramp.logbook import Desk, Ruling
from crossfade.ramp.rulebook import MEMORY, Opened, digest_of, opened
from crossfade.rollout.names import route_name
from crossfade.rollout.routes import FULL_BP
from crossfade.rollout.state import MigrationState

SEES_TRAFFIC = frozenset({"ramp", "step", "cutover", "soak"})
"""Boundaries at which the router's counters must be readable even when no gate counts them: blindness there holds."""

_GLANCE = 4
"""Intervals of a look that only asks whether there is anything to be seen."""


@dataclass(frozen=True)
class Ruled:
    """A verdict, the evidence it rests on, and the migration's state after it was written down."""

    verdict: Verdict
    evidence: Evidence
    state: MigrationState


def gates_at(gates: Mapping[str, Gate], boundary: Boundary) -> dict[str, Gate]:
    """The gates that guard `boundary`."""
    return {name: gate for name, gate in gates.items() if boundary in gate.before}


def rule(desk: Desk, state: MigrationState, boundary: Boundary) -> Ruled:
    """Judge a boundary on what was counted since the last ruling, and journal the ruling with the judge's new memory.

    Verdict and memory are stored in one transaction, before anybody acts: whoever is killed in between repeats the same verdict
    from the same memory. Raises StaleWriter when another run has moved the migration meanwhile.
    """
    return rule_from(opened(desk, state, counts=boundary in SEES_TRAFFIC), desk, boundary)


def rule_from(before: Opened, desk: Desk, boundary: Boundary) -> Ruled:
    """As `rule`, by rules and memory that were opened just now."""
    evidence = _gather(desk, before.state, boundary, before)
    judged = judge(before.rules, before.memory, evidence)
    after = judged.state.model_dump_json()
    ruling = Ruling(
        rules=before.digest,
        key=before.memory.key,
        since_s=before.opening.since_s,
        halvings=before.opening.halvings,
        evidence=evidence,
        verdict=judged.verdict,
        before=digest_of(before.memory),
        after=digest_of(judged.state),
    )
    reach("before-decision")
    return Ruled(judged.verdict, evidence, desk.move(before.state, "decision", boundary, ruling, {MEMORY: after}))


def pass_boundary(desk: Desk, state: MigrationState, boundary: Boundary, *, patience_s: float, poll_s: float = 2.0) -> Ruled:
    """Wait at a boundary where no traffic has moved yet until its gates promote.

    Raises GateFailed when one says stop, or when it still holds after `patience_s` seconds. Only the last ruling of a wait
    differs from the one before it in what follows, but each is journaled: a hold is a decision too. What a person orders meanwhile
    (a pause) does not end the wait; StaleWriter is raised when the migration left the phase or the attempt it waits in.
    """
    give_up_s = desk.clock.now_s() + patience_s
    while True:
        try:
            ruled = rule(desk, state, boundary)
        except StaleWriter:
            now = desk.journal.state(state.name)
            if (now.attempt, now.phase) != (state.attempt, state.phase):
                raise
            state = now
            continue
        state = ruled.state
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


def _gather(desk: Desk, state: MigrationState, boundary: Boundary, before: Opened) -> Evidence:
    now_s = desk.clock.now_s()
    guarding = gates_at(desk.plan.gates, boundary)
    readings = tuple(desk.metrics.read(name, gate.promql) for name, gate in guarding.items() if isinstance(gate, PromqlGate))
    found = _counted(desk, state, boundary, before.memory, now_s)
    steps = desk.plan.ramp.steps
    return Evidence(
        boundary=boundary,
        step=state.step,
        share_bp=state.share_bp,
        next_share_bp=FULL_BP if boundary == "soak" else steps[min(state.step + 1, len(steps) - 1)],
        held_s=now_s - state.share_since_s,
        readings=readings,
        intervals=() if isinstance(found, Blind) else tuple(found),
        blind=found.why if isinstance(found, Blind) else "",
    )


def _counted(desk: Desk, state: MigrationState, boundary: Boundary, memory: JudgeState, now_s: float) -> Sequence[Interval] | Blind:
    """New whole intervals since the last ruling, none from before the share last moved: they would be another share's.

    While nobody is on the target only blindness matters, and a look at the last moments shows it.
    """
    if boundary not in SEES_TRAFFIC:
        return ()
    route, every_s = route_name(state.name), desk.plan.judge.interval
    if state.share_bp == 0:
        seen = desk.metrics.complete_intervals(route, since_s=now_s - _GLANCE * every_s, now_s=now_s, every_s=every_s)
        return seen if isinstance(seen, Blind) else ()
    since_s, measures = max(memory.until_s, state.share_since_s), measures_of(desk.plan.gates)
    return count_since(desk.metrics, route, since_s=since_s, now_s=now_s, every_s=every_s, measures=measures)


def count_since(
    metrics: Metrics, route: str, *, since_s: float, now_s: float, every_s: float, measures: frozenset[Measure] = MEASURES
) -> Sequence[Interval] | Blind:
    """All whole intervals since then, however long ago. Blindness on the way blinds the whole: the next call begins there again.

    Prometheus is asked at least once, also when no interval can have ended since: whether it can be read matters as well.
    """
    found: list[Interval] = []
    while not found or now_s - since_s >= every_s:
        more = metrics.complete_intervals(route, since_s=since_s, now_s=now_s, every_s=every_s, measures=measures)
        if isinstance(more, Blind) or not more:
            return more if isinstance(more, Blind) else found
        found += more
        since_s = more[-1].end_s
    return found


def measures_of(gates: Mapping[str, Gate]) -> frozenset[Measure]:
    """The latencies that some gate counts. No other histogram is asked for: each of them is a hundred series and more of a route."""
    return frozenset(latency_name(name)[0] for name, gate in gates.items() if isinstance(gate, LatencyGate))
