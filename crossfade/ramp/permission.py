"""Whether a share may rise, apart from what the gates say: people, the guard, and the way back are asked each time."""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.plan.units import format_seconds, format_share
from crossfade.ports import NotReady, Unwatched
from crossfade.ramp.logbook import Desk
from crossfade.rollout.names import route_name
from crossfade.rollout.state import MigrationState


@dataclass(frozen=True)
class Permitted:
    """Nobody and nothing stands against the raise."""


@dataclass(frozen=True)
class Refused:
    """What stands against it: `subject` names it in the journal, `why` is for a person."""

    subject: str
    why: str


def may_rise(desk: Desk, state: MigrationState, share_bp: int) -> Permitted | Refused:
    """The first thing that stands against putting `share_bp` on the target now.

    The cheap questions come first. The source is asked last, because asking it also keeps its model loaded.
    """
    now_s = desk.clock.now_s()
    if state.paused_by:
        return Refused("paused", f"paused by {state.paused_by}. Go on with: crossfade ramp resume {state.name}")
    if state.hold_until_s > now_s:
        return Refused("hold", f"a person asked to stay at this step for another {format_seconds(round(state.hold_until_s - now_s))}")
    guard = desk.watchman.watches(route_name(state.name), now_s=now_s)
    if isinstance(guard, Unwatched):
        return Refused("unwatched", f"nobody would bring users back: {guard.why}")
    if share_bp in desk.plan.ramp.approve_before and state.approved_bp < share_bp:
        return Refused(
            "approval",
            f"{format_share(share_bp)} waits for a person: crossfade ramp approve {state.name}, or the deployment `approve` in the "
            "Prefect UI. No answer is no",
        )
    source = desk.standby.stands_ready()
    if isinstance(source, NotReady):
        return Refused("source", f"the source could not take everything back at once: {source.why}")
    return Permitted()
