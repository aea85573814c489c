"""The way back by name alone: for a person at the command line, an order in Prefect's UI, and the rollback run.

It needs the route folder and nothing else. The plan is not read, for one that a newer version refuses must not keep users on a failing
target; and the journal is waited for a second at most before the route is tripped. Whether the migration has finished, or exists at
all, is asked in that second: only then is a rollback refused.
"""

from __future__ import annotations

import threading

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, UnknownMigration, Unreachable
from crossfade.home import Home
from crossfade.ports import SystemClock
from crossfade.ramp.logbook import Ledger
from crossfade.ramp.rollback import Refuse, RolledBack, nothing_against, roll_back, roll_back_untold
from crossfade.store import open_journal
from crossfade.store.journal import SqlJournal

_LOOK_S = 1.0
"""The source is to have everything two seconds after the call."""


def bring_back(migration: str, *, why: str, by: str, refuse: Refuse = nothing_against) -> RolledBack:
    """`ramp.rollback.roll_back` on this machine's router, with the journal up or down.

    Raises UnknownMigration, NotWrittenDown when the route is back and only the journal was not told, and as `roll_back`.
    """
    home, clock = Home.from_environment(), SystemClock()
    router = EnvoyRouter(home.router)
    journal = _journal(home, migration)
    if isinstance(journal, CrossfadeError):
        roll_back_untold(router, migration, why=why, by=by, at_s=clock.now_s(), untold=journal)
    return roll_back(Ledger(journal=journal, router=router, clock=clock), migration, why=why, by=by, refuse=refuse)


def _journal(home: Home, migration: str) -> SqlJournal | CrossfadeError:
    """The journal, patient again now that it has answered: users are back before it is told. Or why it cannot be asked.

    Raises UnknownMigration. Asked in a thread of its own: PostgreSQL's driver waits two seconds for a connection, however few it is told.
    """
    found: list[SqlJournal | CrossfadeError] = []

    def look() -> None:
        try:
            open_journal(home, wait_s=_LOOK_S).state(migration)
            found.append(open_journal(home))
        except CrossfadeError as error:
            found.append(error)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(_LOOK_S)
    if not found:
        return Unreachable(
            f"the journal: it did not answer within {_LOOK_S:g} s; see that its server runs and what CROSSFADE_JOURNAL says."
        )
    if isinstance(found[0], UnknownMigration):
        raise found[0]
    return found[0]
