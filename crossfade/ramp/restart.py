"""A target that was started anew has proven nothing: users go back to the first step, and its judge begins from no evidence.

The time up to the restart is judged first, by the old memory: a process that took its users' requests with it may end the ramp. What
is owed to a restart stands in the migration's state until it is done, whoever is killed or overtaken meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.ramp.logbook import Desk
from crossfade.ramp.moves import move_to_step
from crossfade.ramp.rulebook import Opened, reopened
from crossfade.rollout.state import MigrationState

TOO_MANY = "the target's restarts"
"""Who pauses a ramp whose target does not stay up."""


@dataclass(frozen=True)
class BegunAnew:
    """Where the migration is after a restart of its target, and why. `tell` is empty when people were told that it does not stay up."""

    state: MigrationState
    why: str
    tell: str


def is_new(before: Opened, state: MigrationState) -> bool:
    """Whether the target was started anew and the ramp has not begun again for it."""
    return bool(before.restarted_at) or state.anew


def begin_anew(desk: Desk, before: Opened, state: MigrationState) -> BegunAnew:
    """Back to the first step, from no evidence and with half the error budget. Raises what a step down raises; the next call goes on.

    A target that was started anew more often than the plan bears is not given users again and again: the ramp is paused.
    """
    told, restarts = state.paused_by == TOO_MANY and not state.anew, before.opening.restarts
    if before.restarted_at:
        restarts += 1
        too_many = restarts > desk.plan.target.restarts_at_most and not state.paused_by
        state = reopened(desk, before, state.with_pause(TOO_MANY) if too_many else state).state
    why = f"the target was started anew, restart {restarts} of this attempt: the ramp begins again at its first step, from no evidence"
    if state.step > 0:
        state = move_to_step(desk, state, 0, why)
    if state.paused_by == TOO_MANY:
        why += (
            f". That is more than target.restarts_at_most, {desk.plan.target.restarts_at_most}, so it is paused: see the target's log, "
            f"then crossfade ramp resume {state.name}, or abort"
        )
    return BegunAnew(state, why, "" if told else why)
