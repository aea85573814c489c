"""Rehearse the rollback before any user is moved.

A model name nobody uses is routed wholly to the target and answers real requests. Then its route is pointed at a port
nobody listens on: to the router, to Prometheus and to the guard that is a target which began to fail. The guard, not this
code, must bring the route back to the source, within the plan's patience. Clients never see any of it.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from crossfade.errors import CrossfadeError, GateFailed
from crossfade.ramp.logbook import Desk
from crossfade.ramp.moves import put_unused, take_unused
from crossfade.rollout.names import rehearsal_model, rehearsal_route_name
from crossfade.rollout.routes import FULL_BP, ModelRoute, Upstream
from crossfade.rollout.state import MigrationState

Send = Callable[[str], str]
"""Sends one real request for a model name through the router; returns the answer's text or raises CrossfadeError."""


class Rehearsed(BaseModel):
    """What the rehearsal showed. `seconds` run from the first failing request until the source had everything."""

    answered_by_target: int
    seconds: float
    latch_by: str
    latch_why: str


def rehearse(desk: Desk, state: MigrationState, send: Send, *, requests: int = 3, patience_s: float = 60.0) -> Rehearsed:
    """Break a hidden route and time the guard; raises GateFailed when the target does not answer or the guard does not act."""
    route, model = rehearsal_route_name(state.name), rehearsal_model(state.name)
    _clear(desk, route)
    hidden = ModelRoute(name=route, models=(model,), share_bp=FULL_BP)
    put_unused(desk.router, hidden)
    try:
        answered = sum(1 for _ in range(requests) if send(model))
        if answered < requests:
            raise GateFailed(
                f"{state.name}: in the rehearsal the target gave {requests - answered} empty answers of {requests}. See its log."
            )
        return _break_and_wait(desk, hidden, send, answered, patience_s)
    finally:
        _clear(desk, route)


def _break_and_wait(desk: Desk, hidden: ModelRoute, send: Send, answered: int, patience_s: float) -> Rehearsed:
    broken = hidden.model_copy(update={"upstream": Upstream.REHEARSAL_BREACH})
    put_unused(desk.router, broken)
    began_s = desk.clock.now_s()
    while desk.clock.now_s() - began_s < patience_s:
        _send_expecting_nothing(send, hidden.models[0])
        latch = desk.router.latches().get(hidden.name)
        if latch and desk.router.observed().route(hidden.name).share_bp == 0:
            return Rehearsed(answered_by_target=answered, seconds=desk.clock.now_s() - began_s, latch_by=latch.by, latch_why=latch.why)
        desk.clock.sleep(0.2)
    raise GateFailed(
        f"the rehearsed breach was not rolled back within {patience_s:.0f} s. Is the guard running ('crossfade guard'), "
        "and does its Prometheus scrape the router? No user was moved."
    )


def _send_expecting_nothing(send: Send, model: str) -> None:
    try:
        send(model)
    except CrossfadeError:
        return  # the source does not know the hidden name; only the router's count of the failed first try matters


def _clear(desk: Desk, route: str) -> None:
    take_unused(desk.router, route)
    desk.router.resume(route)
