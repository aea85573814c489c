"""Putting everything back on the source. Idempotent: guard, automation, flow and person may all call it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pydantic import BaseModel

from crossfade.errors import (
    CrossfadeError,
    IllegalMove,
    NotInForce,
    NotWrittenDown,
    PermanentError,
    StaleWriter,
    UnknownMigration,
    Unreachable,
    UserError,
)
from crossfade.failpoints import reach
from crossfade.ports import Router
from crossfade.ramp.logbook import Because, Desk, Ledger, ShareMove
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import AT_SOURCE, USERS_MAY_BE_OVER, Phase
from crossfade.rollout.state import MigrationState

_CAS_TRIES = 5

Refuse = Callable[[MigrationState], None]
"""Raises where a rollback makes no sense for the state there is; not asked while the journal is down."""


@dataclass(frozen=True)
class RolledBack:
    """What a rollback found and left: `tripped_here` is false when the guard had been faster or no route was there to trip."""

    state: MigrationState
    tripped_here: bool
    verified: str

    def __str__(self) -> str:
        return f"{self.state.name}: {self.state.phase}; {self.verified}"


def nothing_against(_: MigrationState) -> None:
    """Roll back whatever the state is."""


def roll_back(desk: Ledger, migration: str, *, why: str, by: str, refuse: Refuse = nothing_against) -> RolledBack:
    """The source at 100 %, latched, then the journal told. The route moves first: it needs neither journal nor network.

    A migration whose route was never made has nothing to move: the source serves everything. Raises UserError for a migration that has
    finished (its source may be gone) and on a machine that is not the router's, NotInForce while the router is seen to have users on
    the target, and NotWrittenDown when all is done but the journal's part.
    """
    route = route_name(migration)
    _ask_journal(desk, migration, refuse)
    if not _routed(desk.router, route):
        return _without_a_route(desk, migration, why)
    latched_before = route in desk.router.latches()
    reach("before-latch")
    applied = desk.router.trip(route, why=why, by=by, at_s=desk.clock.now_s())
    reach("after-trip")
    verified = _verified(desk.router, route)
    move = ShareMove(route=applied.table.route(route), generation=applied.table.generation, seconds=applied.seconds, why=why)
    try:
        state = _journal(desk, migration, why, move)
    except (StaleWriter, IllegalMove):
        raise
    except CrossfadeError as error:
        raise _not_told(migration, error) from None
    reach("after-rolled-back")
    return RolledBack(state, tripped_here=not latched_before, verified=verified)


def roll_back_untold(router: Router, migration: str, *, why: str, by: str, at_s: float, untold: CrossfadeError) -> NoReturn:
    """The same where the journal cannot even be opened, which `untold` says: raises NotWrittenDown once the source has everything.

    Raises `untold` when this router has no route of the migration: then nothing was moved.
    """
    route = route_name(migration)
    if not _routed(router, route):
        raise untold
    router.trip(route, why=why, by=by, at_s=at_s)
    _verified(router, route)
    raise _not_told(migration, untold)


def _ask_journal(desk: Ledger, migration: str, refuse: Refuse) -> None:
    try:
        state = desk.journal.state(migration)
    except UnknownMigration:
        raise
    except CrossfadeError:
        return  # the journal being down must not keep traffic on a failing target
    refuse(state)
    if state.phase is Phase.FINISHED:
        raise UserError(f"{migration} has finished: its source is no longer kept warm. Begin a new migration to move back.")


def _routed(router: Router, route: str) -> bool:
    try:
        return any(known.name == route for known in router.table().routes)
    except PermanentError:
        return True  # a broken route file: the trip restores a good one


def _without_a_route(desk: Ledger, migration: str, why: str) -> RolledBack:
    """Write it down, unless what is missing is not the route but the router."""
    state = desk.journal.state(migration)
    if state.share_bp > 0 or state.phase in USERS_MAY_BE_OVER:
        desk.router.refuse_elsewhere(route_name(migration))
    settled = _journal(desk, migration, why, Because(why=why))
    return RolledBack(settled, tripped_here=False, verified="the router has no route for it: the source serves everything")


def _journal(desk: Ledger, migration: str, why: str, body: BaseModel) -> MigrationState:
    for _ in range(_CAS_TRIES):
        state = desk.journal.state(migration)
        if state.phase in AT_SOURCE:
            return state
        try:
            if state.phase is not Phase.ROLLING_BACK:
                state = desk.enter(state, Phase.ROLLING_BACK, why)
            reach("after-rolling-back")
            settled = state.with_source_only(now_s=desk.clock.now_s(), because=why)
            settled = settled.with_phase(Phase.ROLLED_BACK, now_s=desk.clock.now_s(), because=why)
            return desk.move(settled, "outcome", "rollback", body)
        except StaleWriter:
            continue
    raise StaleWriter(f"{migration}: the source has all traffic, but the journal kept moving under us. Run 'crossfade status'.")


def _not_told(migration: str, error: CrossfadeError) -> NotWrittenDown:
    return NotWrittenDown(
        f"{migration}: the source has everything, and the route is latched. The journal was not told: {error} "
        "The next tick or reconcile finds the latch and writes it down."
    )


def _verified(router: Router, route: str) -> str:
    """Where it was seen that the source has everything; raises NotInForce when the router shows users on the target."""
    try:
        shown = {known.name: known.share_bp for known in router.observed().routes}.get(route, 0)
    except Unreachable as error:
        return f"the route file has the source at 100 %; the router's own dump could not be read ({error})"
    if shown:
        raise NotInForce(
            f"the latch and the route file are in place, but the router's own dump still shows {shown / 100:g} % of {route} on the target. "
            "Try again; restart the router if it stays so."
        )
    return "the router's own dump shows the source at 100 %"


def fail(desk: Desk, migration: str, why: str) -> MigrationState:
    """End a migration no user was moved by; one that has traffic on the target is left alone for the guard and a person."""
    state = desk.journal.state(migration)
    if state.ended or state.share_bp > 0:
        return state
    return desk.enter(state, Phase.FAILED, why, Because(why=why))
