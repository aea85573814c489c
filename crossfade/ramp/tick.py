"""A tick: read evidence, judge, move at most one step, verify, write down. Safe to repeat, safe to kill at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossfade.errors import Tripped
from crossfade.failpoints import reach
from crossfade.judge.verdict import Decision
from crossfade.plan.gates import Boundary
from crossfade.ports import NotReady
from crossfade.ramp.gatekeeper import Ruled, rule_from
from crossfade.ramp.logbook import Because, Desk
from crossfade.ramp.moves import move_to_step
from crossfade.ramp.permission import Refused, may_rise
from crossfade.ramp.reconcile import reconcile
from crossfade.ramp.restart import begin_anew, is_new
from crossfade.ramp.rollback import roll_back
from crossfade.ramp.rulebook import Opened, opened
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import FULL_BP
from crossfade.rollout.state import MigrationState

_LONGEST_SOAK_TICKS = 3
"""A soak counts at most so many tick intervals between two ticks: time nobody looked at proves nothing."""

_SOURCE_BACK = "the source could take everything back again"

Did = Literal["moved", "held", "back", "rolled_back", "cut_over", "finished", "nothing"]


@dataclass(frozen=True)
class Ticked:
    """What a tick did and why; `ruled` is absent when there was nothing to judge.

    `tell` is what a person should hear of now: a rollback, a question, a step past its deadline, a restart, a soak without a way back.
    Each is said once, not at every tick.
    """

    state: MigrationState
    did: Did
    reason: str
    ruled: Ruled | None = None
    tell: str = ""


def tick(desk: Desk, migration: str) -> Ticked:
    """Judge a migration with traffic (or ready for it) once, and move it at most one step."""
    known = desk.journal.state(migration)
    state = reconcile(desk, migration)
    if state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        if known.phase is Phase.ROLLED_BACK:
            return Ticked(state, "rolled_back", state.because)
        return _rolled_back(state, state.because)
    if state.phase is Phase.RAMPING and state.share_bp == FULL_BP:
        state = desk.enter(state, Phase.CUT_OVER, "the router shows 100 % on the target")
    if state.phase not in (Phase.REHEARSED, Phase.RAMPING, Phase.CUT_OVER, Phase.SOAKING):
        return Ticked(state, "nothing", f"a migration that is {state.phase} has nothing to tick")
    before = opened(desk, state, counts=True)
    ruled = rule_from(before, desk, boundary_of(desk, state))
    reach("after-decision")
    if ruled.verdict.decision is Decision.ROLL_BACK:
        back = roll_back(desk, migration, why=ruled.verdict.reason, by="judge")
        return _rolled_back(back.state, ruled.verdict.reason, ruled)
    if is_new(before, ruled.state):
        return _begin_anew(desk, before, ruled)
    if state.phase in (Phase.CUT_OVER, Phase.SOAKING):
        return _soak(desk, ruled)
    if ruled.verdict.decision is Decision.HOLD:
        return _held(desk, ruled)
    return _advance(desk, ruled)


def boundary_of(desk: Desk, state: MigrationState) -> Boundary:
    """The boundary at which a migration with traffic, or ready for it, stands."""
    if state.phase is Phase.REHEARSED:
        return "ramp"
    if state.phase in (Phase.CUT_OVER, Phase.SOAKING):
        return "soak"
    return "cutover" if desk.plan.ramp.steps[state.step + 1] == FULL_BP else "step"


def _rolled_back(state: MigrationState, why: str, ruled: Ruled | None = None) -> Ticked:
    """A rollback that this tick made or wrote down: the one moment at which people are told of it."""
    return Ticked(state, "rolled_back", why, ruled, tell=f"rolled back, the source serves everything: {why}")


def _begin_anew(desk: Desk, before: Opened, ruled: Ruled) -> Ticked:
    try:
        begun = begin_anew(desk, before, ruled.state)
    except Tripped as tripped:
        return _rolled_back(reconcile(desk, ruled.state.name), str(tripped), ruled)
    return Ticked(begun.state, "back" if begun.state.share_bp else "held", begun.why, ruled, tell=begun.tell)


def _advance(desk: Desk, ruled: Ruled) -> Ticked:
    state, step = ruled.state, ruled.state.step + 1
    permission = may_rise(desk, state, desk.plan.ramp.steps[step])
    if isinstance(permission, Refused):
        return _not_permitted(desk, ruled, permission, step)
    try:
        moved = move_to_step(desk, state, step, ruled.verdict.reason)
    except Tripped as tripped:
        return _rolled_back(reconcile(desk, state.name), str(tripped), ruled)
    return Ticked(moved, "cut_over" if moved.share_bp == FULL_BP else "moved", moved.because, ruled)


def _not_permitted(desk: Desk, ruled: Ruled, refused: Refused, step: int) -> Ticked:
    """The gates promote, but somebody or something else does not. A question to a person is asked once."""
    why, state = f"the gates promote, but {refused.why}", ruled.state
    share_bp = desk.plan.ramp.steps[step]
    if refused.subject != "approval":
        desk.write(state, "note", refused.subject, Because(why=why))
        return Ticked(state, "held", why, ruled)
    if state.asked_bp != share_bp:
        state = desk.move(state.with_question(share_bp), "note", "question", Because(why=refused.why))
    return Ticked(state, "held", why, ruled, tell=_said_once(desk, state, "approval", why))


def _held(desk: Desk, ruled: Ruled) -> Ticked:
    state, reason = ruled.state, ruled.verdict.reason
    waited_s = desk.clock.now_s() - state.waits_since_s
    if state.phase is not Phase.RAMPING or waited_s <= desk.plan.ramp.deadline or state.paused_by:
        return Ticked(state, "held", reason, ruled)
    why = f"held for {waited_s:.0f} s, longer than the plan's deadline: {reason}"
    match desk.plan.ramp.at_deadline:
        case "roll_back":
            return _rolled_back(roll_back(desk, state.name, why=why, by="deadline").state, why, ruled)
        case "ask":
            asked = desk.move(state.with_pause("the plan's deadline"), "note", "deadline", Because(why=why))
            said = f"{why}. Paused: a person decides (resume, back or abort)"
            return Ticked(asked, "held", said, ruled, tell=said)
        case "hold":
            return Ticked(state, "held", why, ruled, tell=_said_once(desk, state, "deadline", why))


def _said_once(desk: Desk, state: MigrationState, subject: str, why: str) -> str:
    """`why`, with a note in the journal, the first time since the share moved or people let it go on; afterwards nothing."""
    last = desk.journal.entries(state.name, kind="note", subject=subject, attempt=state.attempt, newest=1)
    if last and last[0].at_s >= state.waits_since_s:
        return ""
    desk.write(state, "note", subject, Because(why=why))
    return why


def _soak(desk: Desk, ruled: Ruled) -> Ticked:
    """Asking the source also keeps its model loaded until the soak has ended; time in which it is no way back does not count."""
    found = desk.standby.stands_ready()
    missing = f"the source could not take everything back at once: {found.why}" if isinstance(found, NotReady) else ""
    told = _said_of_source(desk, ruled.state, missing)
    if ruled.state.phase is Phase.SOAKING:
        return _soaked(desk, ruled, missing, told)
    reach("before-soaking")
    begun = desk.enter(ruled.state, Phase.SOAKING, f"the soak of {desk.plan.soak:g} s begins")
    reach("after-soaking")
    return Ticked(begun, "held", f"the soak begins; {missing}" if missing else "the soak begins", ruled, tell=told)


def _said_of_source(desk: Desk, state: MigrationState, missing: str) -> str:
    """`missing` the first time it is so, and again only after the source was back; both are noted in the journal."""
    last = desk.journal.entries(state.name, kind="note", subject="source", attempt=state.attempt, newest=1)
    away = bool(last) and last[0].at_s >= state.share_since_s and Because.model_validate_json(last[0].body).why != _SOURCE_BACK
    if away == bool(missing):
        return ""
    desk.write(state, "note", "source", Because(why=missing or _SOURCE_BACK))
    return missing


def _soaked(desk: Desk, ruled: Ruled, missing: str, told: str) -> Ticked:
    state = ruled.state
    counts = ruled.verdict.decision is Decision.PROMOTE and not state.paused_by and not missing
    reach("before-soak")
    soaked = state.with_soak(now_s=desk.clock.now_s(), promoted=counts, longest_s=_LONGEST_SOAK_TICKS * desk.plan.ramp.every)
    why = f"soaked {soaked.soaked_s:.0f} of {desk.plan.soak:.0f} s under gates that all pass"
    if soaked.soaked_s < desk.plan.soak or not counts:
        not_counted = f"paused by {state.paused_by}" if state.paused_by else missing or ruled.verdict.reason
        reason = why if counts else f"{why}; this tick does not count: {not_counted}"
        return Ticked(desk.move(soaked, "outcome", "soak", Because(why=reason)), "held", reason, ruled, tell=told)
    reach("before-finished")
    if route_name(state.name) in desk.router.latches():  # the last look before the source may go
        return _rolled_back(reconcile(desk, state.name), "it was tripped at the end of its soak", ruled)
    finished = soaked.with_phase(Phase.FINISHED, now_s=desk.clock.now_s(), because=why)
    return Ticked(desk.move(finished, "phase", str(Phase.FINISHED), Because(why=why)), "finished", why, ruled)
