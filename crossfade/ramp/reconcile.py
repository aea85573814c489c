"""Journal and route folder brought to agree, without ever raising a share in force. Done at every start and tick.

| found | done |
|---|---|
| a latch, or a rollback that was begun | the rollback is finished |
| no route of that name | somebody took it away, and the source serves everything: the rollback is written down |
| the route lower than the journal, as a written intent wanted it | the intent's author died: it is written down as done |
| the route lower than the journal, and nobody wrote why | somebody rolled back by hand: so does the journal |
| the route higher, as a written intent wanted it, and the router itself shows it | the intent's author died after its write: it stands |
| the route higher otherwise | the route goes back to what the journal knows, and the step is judged afresh |
| users on the target, and the journal says `rolled_back` or `failed` | written down where the route was not seen: it is tripped |

The journal's version is taken first, so that a tick which is just writing its own move down loses, and does not believe in a share that
is no longer in force.
"""

from __future__ import annotations

from crossfade.errors import Unreachable
from crossfade.failpoints import reach
from crossfade.plan.units import format_share
from crossfade.ramp.logbook import Desk, ShareMove
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import AT_SOURCE, USERS_MAY_BE_OVER, Phase
from crossfade.rollout.routes import FULL_BP, ModelRoute
from crossfade.rollout.state import MigrationState


def reconcile(desk: Desk, migration: str) -> MigrationState:
    """The state that journal and route agree on; raises StaleWriter when somebody else is settling it, and as `roll_back`."""
    state, route = desk.journal.state(migration), route_name(migration)
    if state.phase in AT_SOURCE:
        return _leave_nobody(desk, state)
    if state.phase not in USERS_MAY_BE_OVER:
        return state
    latch = desk.router.latches().get(route)
    if latch or state.phase is Phase.ROLLING_BACK:
        return roll_back(desk, migration, why=latch.why if latch else state.because, by=latch.by if latch else "tick").state
    table = desk.router.table()
    if all(known.name != route for known in table.routes):
        return roll_back(desk, migration, why="its route is gone from the router: the source serves everything", by="tick").state
    in_force = table.route(route)
    if in_force.share_bp == state.share_bp:
        return state
    meant = _unfinished_intent(desk, state, in_force)
    if in_force.share_bp < state.share_bp:
        if meant is not None:
            return _write_down(desk, state, meant)
        why = f"the route folder has {format_share(in_force.share_bp)} although the journal says {format_share(state.share_bp)}"
        return roll_back(desk, migration, why=why, by="tick").state
    if meant is not None and _router_shows(desk, in_force):
        return _write_down(desk, state, meant)
    return _lower(desk, state, in_force, table.generation)


def _leave_nobody(desk: Desk, state: MigrationState) -> MigrationState:
    """The journal says that the source serves everything: so it is."""
    table = desk.router.table()
    for route in table.routes:
        if route.name == route_name(state.name) and route.share_bp > 0:
            why = f"it is {state.phase}, and the router had {format_share(route.share_bp)} on the target"
            nobody = ShareMove(route=route.with_at_most(0, 0), generation=table.generation, why=why)
            state = desk.move(state, "intent", "reconcile", nobody)
            reach("before-lowering")
            applied = desk.router.trip(route.name, why=why, by="tick", at_s=desk.clock.now_s())
            reach("after-lowering")
            desk.write(state, "outcome", "reconcile", nobody.model_copy(update={"generation": applied.table.generation}))
    return state


def _unfinished_intent(desk: Desk, state: MigrationState, in_force: ModelRoute) -> ShareMove | None:
    """The newest intent, when nothing followed it and it wanted just what is in force."""
    newest = desk.newest_move(state)
    if newest is None or newest[0] != "intent":
        return None
    meant = newest[1]
    return meant if meant.step >= 0 and meant.route.share_bp == in_force.share_bp else None


def _router_shows(desk: Desk, in_force: ModelRoute) -> bool:
    try:
        return desk.router.observed().route(in_force.name).share_bp == in_force.share_bp
    except (Unreachable, KeyError):
        return False


def _write_down(desk: Desk, state: MigrationState, meant: ShareMove) -> MigrationState:
    why = f"{meant.why}; written down later, because its author died"
    moved = state.with_step(meant.step, meant.route.share_bp, now_s=desk.clock.now_s(), because=why)
    if meant.route.share_bp == FULL_BP:
        moved = moved.with_phase(Phase.CUT_OVER, now_s=desk.clock.now_s(), because="the router shows 100 % on the target")
    reach("before-settling")
    return desk.move(moved, "outcome", "share", meant.model_copy(update={"why": why}))


def _lower(desk: Desk, state: MigrationState, in_force: ModelRoute, generation: int) -> MigrationState:
    lowered = in_force.with_at_most(state.share_bp, in_force.shadow_bp)
    why = f"the router had {format_share(in_force.share_bp)}, the journal {format_share(state.share_bp)}: the lower one holds"
    state = desk.move(state, "intent", "reconcile", ShareMove(route=lowered, generation=generation, why=why))
    reach("before-lowering")
    applied = desk.router.apply(lowered, expect=generation)
    reach("after-lowering")
    desk.write(state, "outcome", "reconcile", ShareMove(route=lowered, generation=applied.table.generation, why=why))
    return state
