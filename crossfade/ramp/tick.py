"""A tick: read evidence, judge, move at most one step, verify, write down. Safe to repeat, safe to kill at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossfade.errors import Tripped
from crossfade.judge.verdict import Decision
from crossfade.plan.gates import Boundary
from crossfade.plan.units import format_share
from crossfade.ports import Unwatched
from crossfade.ramp.gatekeeper import Ruled, rule
from crossfade.ramp.logbook import Because, Desk, ShareMove
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import FULL_BP
from crossfade.rollout.state import MigrationState

_LONGEST_SOAK_TICKS = 3
"""A soak counts at most so many tick intervals between two ticks: time nobody looked at proves nothing."""

Did = Literal["moved", "held", "rolled_back", "cut_over", "finished", "nothing"]


@dataclass(frozen=True)
class Ticked:
    """What a tick did and why; `ruled` is absent when there was nothing to judge."""

    state: MigrationState
    did: Did
    reason: str
    ruled: Ruled | None = None


def tick(desk: Desk, migration: str) -> Ticked:
    """Judge a migration with traffic (or ready for it) once, and move it at most one step."""
    state = reconcile(desk, migration)
    if state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        return Ticked(state, "rolled_back", state.because)
    if state.phase is Phase.RAMPING and state.share_bp == FULL_BP:
        state = desk.enter(state, Phase.CUT_OVER, "the router shows 100 % on the target")
    if state.phase not in (Phase.REHEARSED, Phase.RAMPING, Phase.CUT_OVER, Phase.SOAKING):
        return Ticked(state, "nothing", f"a migration that is {state.phase} has nothing to tick")
    ruled = rule(desk, state, _boundary(desk, state))
    if ruled.verdict.decision is Decision.ROLL_BACK:
        back = roll_back(desk, migration, why=ruled.verdict.reason, by="judge")
        return Ticked(back.state, "rolled_back", ruled.verdict.reason, ruled)
    if state.phase is Phase.CUT_OVER:
        return Ticked(desk.enter(state, Phase.SOAKING, f"the soak of {desk.plan.soak:g} s begins"), "held", "the soak begins", ruled)
    if state.phase is Phase.SOAKING:
        return _soak(desk, state, ruled)
    if ruled.verdict.decision is Decision.HOLD:
        return _held(desk, state, ruled)
    return _advance(desk, state, ruled)


def reconcile(desk: Desk, migration: str) -> MigrationState:
    """Make journal and route folder agree without ever raising a share.

    A latch or a route lower than the journal's means somebody rolled back: the journal follows. A route higher than the
    journal's means a tick died between verifying a raise and writing it down: the route goes back to what the journal knows,
    and the step is judged afresh. The journal's version is taken first, so that a tick which is just writing its raise down
    loses, and does not believe in a share that is no longer in force.
    """
    state, route = desk.journal.state(migration), route_name(migration)
    if state.phase not in (Phase.RAMPING, Phase.CUT_OVER, Phase.SOAKING, Phase.REHEARSED, Phase.ROLLING_BACK):
        return state
    latch = desk.router.latches().get(route)
    if latch or state.phase is Phase.ROLLING_BACK:
        return roll_back(desk, migration, why=latch.why if latch else state.because, by=latch.by if latch else "tick").state
    table = desk.router.table()
    in_force = table.route(route)
    if in_force.share_bp > state.share_bp:
        lowered = in_force.model_copy(update={"share_bp": state.share_bp})
        why = f"the router had {format_share(in_force.share_bp)}, the journal {format_share(state.share_bp)}: the lower one holds"
        state = desk.move(state, "intent", "reconcile", ShareMove(route=lowered, generation=table.generation, why=why))
        applied = desk.router.apply(lowered, expect=table.generation)
        desk.write(state, "outcome", "reconcile", ShareMove(route=lowered, generation=applied.table.generation, why=why))
    elif in_force.share_bp < state.share_bp:
        why = f"the route folder has {format_share(in_force.share_bp)} although the journal says {format_share(state.share_bp)}"
        return roll_back(desk, migration, why=why, by="tick").state
    return state


def _boundary(desk: Desk, state: MigrationState) -> Boundary:
    if state.phase is Phase.REHEARSED:
        return "ramp"
    if state.phase in (Phase.CUT_OVER, Phase.SOAKING):
        return "soak"
    return "cutover" if desk.plan.ramp.steps[state.step + 1] == FULL_BP else "step"


def _advance(desk: Desk, state: MigrationState, ruled: Ruled) -> Ticked:
    guard = desk.watchman.watches(route_name(state.name), now_s=desk.clock.now_s())
    if isinstance(guard, Unwatched):
        why = f"the gates promote, but nobody would bring users back: {guard.why}"
        desk.write(state, "note", "unwatched", Because(why=why))
        return Ticked(state, "held", why, ruled)
    step = state.step + 1
    share_bp = desk.plan.ramp.steps[step]
    table = desk.router.table()
    raised = table.route(route_name(state.name)).model_copy(update={"share_bp": share_bp})
    why = f"{ruled.verdict.reason}: on to {format_share(share_bp)}"
    state = desk.move(state, "intent", "share", ShareMove(route=raised, generation=table.generation, why=why))
    try:
        applied = desk.router.apply(raised, expect=table.generation)
    except Tripped as tripped:
        return Ticked(reconcile(desk, state.name), "rolled_back", str(tripped), ruled)
    moved = state.with_step(step, share_bp, now_s=desk.clock.now_s(), because=why)
    if share_bp == FULL_BP:  # one transaction: a migration at 100 % that is not cut over would have no next step to judge
        moved = moved.with_phase(Phase.CUT_OVER, now_s=desk.clock.now_s(), because="the router shows 100 % on the target")
    outcome = ShareMove(route=raised, generation=applied.table.generation, seconds=applied.seconds, why=why)
    moved = desk.move(moved, "outcome", "share", outcome)
    return Ticked(moved, "cut_over" if share_bp == FULL_BP else "moved", why, ruled)


def _held(desk: Desk, state: MigrationState, ruled: Ruled) -> Ticked:
    overdue = state.phase is Phase.RAMPING and ruled.evidence.held_s > desk.plan.ramp.deadline
    if overdue and desk.plan.ramp.at_deadline == "roll_back":
        why = f"held for {ruled.evidence.held_s:.0f} s, longer than the plan's deadline: {ruled.verdict.reason}"
        return Ticked(roll_back(desk, state.name, why=why, by="deadline").state, "rolled_back", why, ruled)
    return Ticked(state, "held", ruled.verdict.reason, ruled)


def _soak(desk: Desk, state: MigrationState, ruled: Ruled) -> Ticked:
    promoted = ruled.verdict.decision is Decision.PROMOTE
    soaked = state.with_soak(now_s=desk.clock.now_s(), promoted=promoted, longest_s=_LONGEST_SOAK_TICKS * desk.plan.ramp.every)
    why = f"soaked {soaked.soaked_s:.0f} of {desk.plan.soak:.0f} s under gates that all pass"
    if soaked.soaked_s < desk.plan.soak or not promoted:
        reason = why if promoted else f"{why}; this tick does not count: {ruled.verdict.reason}"
        return Ticked(desk.move(soaked, "outcome", "soak", Because(why=reason)), "held", reason, ruled)
    finished = soaked.with_phase(Phase.FINISHED, now_s=desk.clock.now_s(), because=why)
    return Ticked(desk.move(finished, "phase", str(Phase.FINISHED), Because(why=why)), "finished", why, ruled)
