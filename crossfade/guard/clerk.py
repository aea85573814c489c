"""The guard's second thread: everything that may be slow or down. Plans, journal, Prefect, hung runs, logs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from crossfade.errors import CrossfadeError, UnknownMigration, Unreachable
from crossfade.guard.events import Events, blind_event, events_of
from crossfade.guard.outbox import Notice, Outbox
from crossfade.guard.reaper import Reaped, Reaper, body
from crossfade.guard.saying import Troubles, say
from crossfade.guard.tripping import BY
from crossfade.guard.vitals import Vitals
from crossfade.guard.watchlist import Unknown, Watchlist
from crossfade.ports import Clock, Entry, Journal, Router
from crossfade.rollout.names import is_rehearsal

ALARM_AFTER_S = 5.0
"""Blindness shorter than this is no event: one slow answer of Prometheus is not worth waking anybody."""

REAP_EVERY_S = 10.0


class Clerk:
    """Works through the outbox and keeps the watchlist fresh. `open_journal` is called again until it succeeds."""

    def __init__(
        self,
        *,
        watchlist: Watchlist,
        outbox: Outbox,
        router: Router,
        open_journal: Callable[[], Journal],
        events: Events,
        vitals: Vitals,
        reaper: Reaper,
        clock: Clock,
        wake: threading.Event,
        reap_every_s: float = REAP_EVERY_S,
        bound_logs: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._watchlist, self._outbox, self._router = watchlist, outbox, router
        self._open_journal, self._events = open_journal, events
        self._vitals, self._reaper, self._clock, self._wake = vitals, reaper, clock, wake
        self._journal: Journal | None = None
        self._recovered = False
        self._troubles = Troubles()
        self._alarmed: set[tuple[str, float]] = set()
        self._reaped: list[tuple[float, Reaped]] = []
        self._reap_every_s, self._reap_due_s, self._bound_logs = reap_every_s, 0.0, bound_logs

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Work until `stop`, at once whenever there is something to tell."""
        while not stop.is_set():
            try:
                self.work_once()
            except Exception as error:  # without a clerk nobody would hear of a breach again
                self._troubles.begins("clerk_failed", "clerk", f"{type(error).__name__}: {error}")
            self._wake.wait(every_s)
            self._wake.clear()

    def work_once(self) -> None:
        """Read the plans, then pass on what is waiting. What fails is tried again the next time; nothing is raised."""
        if self._trying("journal", self._read):
            self._pass_on("journal, writing", self._write_down, [notice for notice in self._outbox.waiting() if not notice.journaled])
        self._pass_on("Prefect", self._announce, [notice for notice in self._outbox.waiting() if not notice.announced])
        self._trying("Prefect, of blindness", self._raise_alarms)
        if self._clock.now_s() >= self._reap_due_s:
            self._reap_due_s = self._clock.now_s() + self._reap_every_s
            self._trying("reaper", self._reap)
            self._trying("logs", self._keep_logs_small)
        self._trying("journal, of what was reaped", self._note_reaped)

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

    def _pass_on(self, whom: str, deed: Callable[[Notice], None], notices: list[Notice]) -> None:
        """Do it for every notice; whoever does not answer is not asked again this time."""
        for notice in notices:
            if not self._trying(whom, partial(deed, notice)):
                return

    def _write_down(self, notice: Notice) -> None:
        if not self._journal:
            return
        try:
            self._journal_once(self._journal, notice)
        except UnknownMigration as error:  # a route that no journal of ours ever made; its latch says why
            say("breach_of_a_stranger", route=notice.route, why=str(error))
        self._outbox.settle(notice.model_copy(update={"journaled": True}))

    @staticmethod
    def _journal_once(journal: Journal, notice: Notice) -> None:
        attempt = notice.attempt or journal.state(notice.migration).attempt
        if not _written(journal, notice.migration, notice.route, notice.at_s):
            text = notice.model_dump_json(exclude={"journaled", "announced"})
            journal.record(Entry(notice.migration, attempt, notice.at_s, "breach", notice.route, text))

    def _announce(self, notice: Notice) -> None:
        self._events.emit(events_of(notice))
        say("announced", route=notice.route, events=[event.name for event in events_of(notice)])
        self._outbox.settle(notice.model_copy(update={"announced": True}))

    def _raise_alarms(self) -> None:
        """An event for every route nobody sees any more, once for each time; what is seen again before Prefect is back is not told."""
        blind = self._vitals.last.blind if self._vitals.last else {}
        self._alarmed &= {(route, since.since_s) for route, since in blind.items()}
        for route, since in blind.items():
            key = (route, since.since_s)
            if key not in self._alarmed and self._clock.now_s() - since.since_s >= ALARM_AFTER_S:
                self._events.emit((blind_event(route, since),))
                self._alarmed.add(key)

    def _reap(self) -> None:
        for reaped in self._reaper.reap(mine=self._watchlist.knows, now_s=self._clock.now_s()):
            say("reaped", migration=reaped.migration, run=reaped.run, why=reaped.why)
            self._vitals.reaped.inc()
            if reaped.migration:
                self._reaped.append((self._clock.now_s(), reaped))

    def _keep_logs_small(self) -> None:
        if cut := self._bound_logs():
            say("logs_cut", programs=list(cut))

    def _note_reaped(self) -> None:
        while self._reaped and self._journal:
            at_s, reaped = self._reaped[0]
            attempt = self._journal.state(reaped.migration).attempt
            self._journal.record(Entry(reaped.migration, attempt, at_s, "note", "reaped", body(reaped)))
            del self._reaped[0]

    def _trying(self, whom: str, attempt: Callable[[], None]) -> bool:
        """Whether it makes sense to ask the same one for more."""
        try:
            attempt()
        except (CrossfadeError, SQLAlchemyError, OSError, ValueError, LookupError) as error:
            self._troubles.begins("cannot_tell", whom, str(error))
            return not isinstance(error, Unreachable)
        self._troubles.over("can_tell_again", whom)
        return True


def _written(journal: Journal, migration: str, route: str, at_s: float) -> bool:
    """Whether a breach is already in the journal, so that a restart writes none twice."""
    found = journal.entries(migration, kind="breach", subject=route)
    return any(abs(entry.at_s - at_s) < 1e-3 for entry in found)
