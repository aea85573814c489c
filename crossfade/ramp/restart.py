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


@dataclass(frozen=True)
class BegunAnew:
    """Where the migration is after a restart of its target, and why."""

    state: MigrationState
    why: str


def is_new(before: Opened, state: MigrationState) -> bool:
    """Whether the target was started anew and the ramp has not begun again for it."""
    return bool(before.restarted_at) or state.anew


def begin_anew(desk: Desk, before: Opened, state: MigrationState) -> BegunAnew:
    """Back to the first step, from no evidence and with half the error budget. Raises what a step down raises; the next call goes on."""
    why = "the target was started anew: the ramp begins again at its first step, from no evidence"
    if before.restarted_at:
        state = reopened(desk, before, state)
    if state.step > 0:
        state = move_to_step(desk, state, 0, why)
    return BegunAnew(state, why)
