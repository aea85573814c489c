"""Which limits a route is watched by: the plan as it was when its migration began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crossfade.errors import CrossfadeError, PermanentError
from crossfade.plan.load import parse_plan
from crossfade.plan.model import GuardPlan, Plan, PrometheusPlan
from crossfade.ports import Journal
from crossfade.rollout.names import migration_of
from crossfade.rollout.phases import Phase


@dataclass(frozen=True)
class Watched:
    """A migration as the guard sees it."""

    migration: str
    attempt: int
    guard: GuardPlan
    prometheus: PrometheusPlan
    finished: bool = False
    """Its source may be gone, so nothing is brought back to it any more."""


@dataclass(frozen=True)
class Unknown:
    """Why a route cannot be judged: there is no plan for it. Guessing its limits would be worse than saying so."""

    why: str


class Watchlist:
    """What the journal last said, kept while the journal is down."""

    def __init__(self) -> None:
        self._known: Mapping[str, Watched] = {}
        self._plans: dict[str, Plan] = {}
        self._problem = "the journal was not read yet"
        self._unreadable: Mapping[str, str] = {}

    def refresh(self, journal: Journal) -> None:
        """Read all migrations again; raises what the journal raises, and then keeps what it had.

        A plan that cannot be read any more blinds us to its own migration only.
        """
        known, unreadable = {}, {}
        try:
            for state in journal.states():
                try:
                    plan = self._plan(journal, state.plan_digest)
                except PermanentError as error:
                    unreadable[state.name] = str(error)
                else:
                    known[state.name] = Watched(state.name, state.attempt, plan.guard, plan.prometheus, state.phase is Phase.FINISHED)
        except CrossfadeError as error:
            self._problem = str(error)
            raise
        self._known, self._unreadable, self._problem = known, unreadable, ""

    def of(self, route: str) -> Watched | Unknown:
        """How to watch a route, rehearsals included."""
        migration = migration_of(route)
        if migration in self._known:
            return self._known[migration]
        why = self._problem or self._unreadable.get(migration) or "it is not in the journal"
        return Unknown(f"no plan of {migration} is known ({why}), so {route} has no limits")

    def knows(self, migration: str) -> bool:
        """Whether the journal held a migration of that name when it was last read."""
        return migration in self._known

    def problem(self) -> str:
        """Why the journal could not be read the last time; empty when it could."""
        return self._problem

    def _plan(self, journal: Journal, digest: str) -> Plan:
        if digest not in self._plans:
            # Paths do not matter to the guard, so neither does the folder.
            self._plans[digest] = parse_plan(journal.plan_text(digest), origin=f"plan {digest[:12]}", folder=Path("/")).plan
        return self._plans[digest]
