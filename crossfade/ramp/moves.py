"""Moving a share, up or down: intent, verified write, outcome. In this order, so that a kill in between is seen and settled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from crossfade.errors import StaleWriter
from crossfade.failpoints import reach
from crossfade.plan.units import format_share
from crossfade.ports import Applied, Router
from crossfade.ramp.logbook import Desk, ShareMove
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import FULL_BP, ModelRoute
from crossfade.rollout.state import MigrationState

_TRIES = 5


def move_to_step(desk: Desk, state: MigrationState, step: int, why: str) -> MigrationState:
    """Put the share of ramp step `step` in force, verified, and journal it.

    Raises Tripped when the route is latched and the share would rise, StaleWriter when somebody else moved the migration or the
    table first, and what else `Router.apply` raises; then nothing has risen.
    """
    share_bp = desk.plan.ramp.steps[step]
    table = desk.router.table()
    route = _at_share(desk, table.route(route_name(state.name)), share_bp)
    said = f"{why}: to {format_share(share_bp)}"
    reach("before-intent")
    state = desk.move(state, "intent", "share", ShareMove(route=route, generation=table.generation, why=said, step=step))
    reach("after-intent")
    applied = desk.router.apply(route, expect=table.generation)
    reach("after-verify")
    moved = state.with_step(step, share_bp, now_s=desk.clock.now_s(), because=said)
    if share_bp == FULL_BP:  # one transaction: a migration at 100 % that is not cut over would have no next step to judge
        moved = moved.with_phase(Phase.CUT_OVER, now_s=desk.clock.now_s(), because="the router shows 100 % on the target")
    outcome = ShareMove(route=route, generation=applied.table.generation, seconds=applied.seconds, why=said, step=step)
    settled = desk.move(moved, "outcome", "share", outcome)
    reach("after-outcome")
    return settled


def put_unused(router: Router, change: ModelRoute) -> None:
    """Put a route in force that no user is on and nobody else writes. Raises what `Router.apply` raises.

    Other migrations move the same table: who was overtaken by one looks again, so many times.
    """
    _on_newest(router, lambda generation: router.apply(change, expect=generation))


def take_unused(router: Router, name: str) -> None:
    """Take such a route away again; nothing happens when it is not there."""
    if any(known.name == name for known in router.table().routes):
        _on_newest(router, lambda generation: router.remove(name, expect=generation))


def _on_newest(router: Router, change: Callable[[int], Applied]) -> Applied:
    for _ in range(_TRIES - 1):
        with suppress(StaleWriter):
            return change(router.table().generation)
    return change(router.table().generation)


def _at_share(desk: Desk, route: ModelRoute, share_bp: int) -> ModelRoute:
    """Mirrored requests are evidence for the early steps only; at 100 % there is nothing left to mirror."""
    shadow_bp = desk.plan.ramp.shadow if share_bp < FULL_BP else 0
    return route.model_copy(update={"share_bp": share_bp, "shadow_bp": shadow_bp})
