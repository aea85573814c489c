"""The guard's second thread: everything that may be slow or down. It reads the plans and tells journal and Prefect of breaches."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from crossfade.errors import CrossfadeError
from crossfade.guard.events import Events, events_of
from crossfade.guard.outbox import Notice, Outbox
from crossfade.guard.saying import say
from crossfade.guard.watchlist import Unknown, Watchlist
from crossfade.ports import Entry, Journal, Router
from crossfade.rollout.names import is_rehearsal

BY = "guard"
"""Who a latch of ours says it is by."""


class Clerk:
    """Works through the outbox and keeps the watchlist fresh. `open_journal` is called again until it succeeds."""

    def __init__(
        self, *, watchlist: Watchlist, outbox: Outbox, router: Router, open_journal: Callable[[], Journal], events: Events
    ) -> None:
        self._watchlist, self._outbox, self._router = watchlist, outbox, router
        self._open_journal, self._events = open_journal, events
        self._journal: Journal | None = None
        self._recovered = False
        self._troubles: dict[str, str] = {}
        self.wake = threading.Event()

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Work until `stop`, at once whenever `wake` is set."""
        while not stop.is_set():
            self.work_once()
            self.wake.wait(every_s)
            self.wake.clear()

    def work_once(self) -> None:
        """Read the plans, then pass on what is waiting. What fails is tried again the next time; nothing is raised."""
        self._trying("journal", self._read)
        for notice in self._outbox.waiting():
            self._trying("journal", lambda notice=notice: self._write_down(notice))  # type: ignore[misc]
        for notice in self._outbox.waiting():
            self._trying("events", lambda notice=notice: self._announce(notice))  # type: ignore[misc]

    def _read(self) -> None:
        self._journal = self._journal or self._open_journal()
        self._watchlist.refresh(self._journal)
        if not self._recovered:
            self._recover(self._journal)
            self._recovered = True

    def _recover(self, journal: Journal) -> None:
        """Notices for trips of a guard that died before it could write one: the latch is there, the entry is not."""
        waiting = {notice.route for notice in self._outbox.waiting()}
        for route, latch in self._router.latches().items():
            watched = self._watchlist.of(route)
            if latch.by != BY or route in waiting or isinstance(watched, Unknown):
                continue
            if not _written(journal, watched.migration, route, latch.at_s):
                self._outbox.put(
                    Notice(
                        route=route,
                        migration=watched.migration,
                        attempt=watched.attempt,
                        rehearsal=is_rehearsal(route),
                        at_s=latch.at_s,
                        reason=latch.why,
                        problem="the guard died right after the trip; its evidence is lost",
                    )
                )

    def _write_down(self, notice: Notice) -> None:
        if notice.journaled or not self._journal:
            return
        if not _written(self._journal, notice.migration, notice.route, notice.at_s):
            body = notice.model_dump_json(exclude={"journaled", "announced"})
            self._journal.record(Entry(notice.migration, notice.attempt, notice.at_s, "breach", notice.route, body))
        self._outbox.settle(notice.model_copy(update={"journaled": True}))

    def _announce(self, notice: Notice) -> None:
        if notice.announced:
            return
        self._events.emit(events_of(notice))
        say("announced", route=notice.route, events=[event.name for event in events_of(notice)])
        self._outbox.settle(notice.model_copy(update={"announced": True}))

    def _trying(self, whom: str, attempt: Callable[[], None]) -> None:
        try:
            attempt()
        except (CrossfadeError, SQLAlchemyError, OSError, ValueError) as error:
            if self._troubles.get(whom) != str(error):
                say("cannot_tell", whom=whom, why=str(error))
            self._troubles[whom] = str(error)
        else:
            if self._troubles.pop(whom, None):
                say("can_tell_again", whom=whom)


def _written(journal: Journal, migration: str, route: str, at_s: float) -> bool:
    """Whether a breach is already in the journal, so that a restart writes none twice."""
    found = journal.entries(migration)
    return any(entry.kind == "breach" and entry.subject == route and abs(entry.at_s - at_s) < 1e-3 for entry in found)
