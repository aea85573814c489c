"""What a person may tell a ramp. Each order is journaled with who gave it and why, before or together with what it does.

| order | does |
|---|---|
| `pause` | nothing rises and no soak time counts until `resume`; judge and guard go on and roll back |
| `hold` | stays at this step for so much longer, then goes on by itself |
| `skip` | goes to the next step without waiting for its proof; never past a roll-back, a latch, a blind guard or a missing approval |
| `back` | one step down, now |
| `abort` | everything back to the source, latched: `rolled_back` |
| `approve`, `reject` | answers a step that the plan's `approve_before` names; a rejection pauses |
"""

from __future__ import annotations

from pydantic import BaseModel

from crossfade.errors import StaleWriter, UserError
from crossfade.judge.verdict import Decision
from crossfade.plan.units import format_seconds, format_share
from crossfade.ramp.gatekeeper import rule_from
from crossfade.ramp.logbook import Because, Desk, Ledger
from crossfade.ramp.moves import move_to_step
from crossfade.ramp.permission import Refused, may_rise
from crossfade.ramp.reconcile import reconcile
from crossfade.ramp.restart import begin_anew, is_new
from crossfade.ramp.rollback import roll_back
from crossfade.ramp.rulebook import opened
from crossfade.ramp.tick import boundary_of
from crossfade.rollout.phases import WITH_TRAFFIC, Phase
from crossfade.rollout.state import MigrationState

_CAS_TRIES = 5


class Order(BaseModel):
    """What was ordered, by whom, and why."""

    by: str
    why: str
    detail: str = ""


def pause(desk: Desk, migration: str, *, by: str, why: str) -> str:
    """Nothing rises until `resume`; raises UserError when it is paused already or has nothing to pause."""
    state = _under_way(desk, migration, "pause")
    if state.paused_by:
        raise UserError(f"{migration} is paused already, by {state.paused_by}. Go on with: crossfade ramp resume {migration}")
    desk.move(state.with_pause(by), "order", "pause", Order(by=by, why=why))
    return f"{migration} is paused at {format_share(state.share_bp)}; judge and guard go on watching it"


def resume(desk: Desk, migration: str, *, by: str, why: str) -> str:
    """Go on after a pause; raises UserError when it is not paused."""
    state = desk.journal.state(migration)
    if state.phase in (Phase.ROLLED_BACK, Phase.FAILED):
        raise UserError(f"{migration} is {state.phase}: only a new attempt begins again. Start it with: crossfade migrate PLAN")
    state = _under_way(desk, migration, "resume")
    if not state.paused_by:
        raise UserError(f"{migration} is not paused: it is {state.phase} at {format_share(state.share_bp)}.")
    desk.move(state.with_resumption(now_s=desk.clock.now_s()), "order", "resume", Order(by=by, why=why))
    return f"{migration} goes on from {format_share(state.share_bp)} at its next tick"


def hold(desk: Desk, migration: str, *, by: str, why: str, for_s: float) -> str:
    """Stay at this step for `for_s` seconds more."""
    state = _ramping(desk, migration, "hold")
    until_s = desk.clock.now_s() + for_s
    desk.move(state.with_hold_until(until_s), "order", "hold", Order(by=by, why=why, detail=format_seconds(for_s)))
    return f"{migration} stays at {format_share(state.share_bp)} for another {format_seconds(for_s)}"


def skip(desk: Desk, migration: str, *, by: str, why: str) -> str:
    """To the next step now, unless there is evidence for a roll-back, which is carried out instead; raises UserError when not permitted."""
    _ramping(desk, migration, "skip")
    state = reconcile(desk, migration)
    if state.phase is not Phase.RAMPING:
        raise UserError(f"{migration} is {state.phase}: {state.because}. There is no step to skip.")
    before = opened(desk, state, counts=True)
    ruled = rule_from(before, desk, boundary_of(desk, state))
    if ruled.verdict.decision is Decision.ROLL_BACK:
        roll_back(desk, migration, why=ruled.verdict.reason, by="judge")
        return f"not skipped: {ruled.verdict.reason}. {migration} was rolled back"
    if is_new(before, ruled.state):
        return f"not skipped: {begin_anew(desk, before, ruled.state).why}"
    step = ruled.state.step + 1
    share_bp = desk.plan.ramp.steps[step]
    permission = may_rise(desk, ruled.state, share_bp)
    if isinstance(permission, Refused):
        if permission.subject == "approval":  # asked from now on, so that the `approve` it names has something to answer
            desk.move(ruled.state.with_question(share_bp), "note", "question", Because(why=permission.why))
        raise UserError(f"{migration} cannot skip to {format_share(share_bp)}: {permission.why}.")
    ordered = desk.move(ruled.state, "order", "skip", Order(by=by, why=why, detail=f"unproven: {ruled.verdict.reason}"))
    moved = move_to_step(desk, ordered, step, f"skipped by {by}: {why}")
    return f"{migration} is at {format_share(moved.share_bp)}, unproven, because {by} said so"


def back(desk: Desk, migration: str, *, by: str, why: str) -> str:
    """One step down, now; raises UserError at the first step, below which there is only `abort`."""
    state = _under_way(desk, migration, "step back")
    if state.phase not in WITH_TRAFFIC or state.step < 1:
        raise UserError(f"{migration} is at its first step or before it. To take everybody back: crossfade ramp abort {migration}")
    state = reconcile(desk, migration)
    if state.phase not in WITH_TRAFFIC or state.step < 1:
        raise UserError(f"{migration} is {state.phase} now: {state.because}.")
    ordered = desk.move(state, "order", "back", Order(by=by, why=why))
    moved = move_to_step(desk, ordered, state.step - 1, f"stepped back by {by}: {why}")
    return f"{migration} is back at {format_share(moved.share_bp)}; it rises again only on new evidence"


def abort(desk: Ledger, migration: str, *, by: str, why: str) -> str:
    """Everything back to the source, latched, also with the journal down; raises UserError for a migration that has ended.

    `way_back.bring_back` is the same for who has no desk: it needs no plan, and waits for no journal.
    """
    return str(roll_back(desk, migration, why=why, by=by, refuse=nothing_to_abort))


def nothing_to_abort(state: MigrationState) -> None:
    """Raise UserError for a migration that has ended."""
    if state.ended:
        raise UserError(f"{state.name} is {state.phase} already ({state.because}); there is nothing to abort.")


def approve(desk: Desk, migration: str, *, by: str, why: str) -> str:
    """Allow the share that is asked about, from the next tick on at which its gates promote. Raises UserError without a question.

    A step down, a restart of the target and a new attempt take the approval back.
    """
    for _ in range(_CAS_TRIES):
        state = _asked(desk, migration)
        try:
            desk.move(state.with_approval(state.asked_bp), "order", "approve", Order(by=by, why=why, detail=format_share(state.asked_bp)))
        except StaleWriter:
            continue  # a tick judged meanwhile; the question stands
        return (
            f"{migration} may go to {format_share(state.asked_bp)} at the next tick at which its gates promote; a step down takes that back"
        )
    raise StaleWriter(f"{migration} kept moving; nothing was approved. Try again.")


def reject(desk: Desk, migration: str, *, by: str, why: str) -> str:
    """Refuse the share that is asked about: the ramp is paused where it is."""
    state = _asked(desk, migration)
    desk.move(state.with_question(0).with_pause(by), "order", "reject", Order(by=by, why=why, detail=format_share(state.asked_bp)))
    return f"{migration} stays at {format_share(state.share_bp)}, paused"


def _asked(desk: Desk, migration: str) -> MigrationState:
    state = _under_way(desk, migration, "answer")
    if not state.asked_bp:
        raise UserError(f"{migration} asks for no approval now: it is {state.phase} at {format_share(state.share_bp)} ({state.because}).")
    return state


def _ramping(desk: Desk, migration: str, what: str) -> MigrationState:
    state = _under_way(desk, migration, what)
    if state.phase is not Phase.RAMPING:
        raise UserError(f"{migration} is {state.phase}, not ramping: there is no step to {what}.")
    return state


def _under_way(desk: Desk, migration: str, what: str) -> MigrationState:
    state = desk.journal.state(migration)
    if state.ended or state.phase is Phase.ROLLING_BACK:
        raise UserError(f"{migration} is {state.phase} ({state.because}); there is nothing to {what}.")
    return state
