"""`python -m crossfade.guard`: watch the routes of CROSSFADE_HOME until a signal."""

from __future__ import annotations

import fcntl
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, UserError
from crossfade.guard.clerk import REAP_EVERY_S, Clerk
from crossfade.guard.events import PrefectEvents
from crossfade.guard.listening import Ear
from crossfade.guard.outbox import Outbox
from crossfade.guard.prefect_http import PrefectHttp
from crossfade.guard.reaper import SHORTEST_S, Reaper
from crossfade.guard.reception import Reception
from crossfade.guard.settings import GuardSettings
from crossfade.guard.tripping import Tripper
from crossfade.guard.vitals import Vitals
from crossfade.guard.watch import Guard
from crossfade.guard.watchlist import Watchlist
from crossfade.home import Home
from crossfade.plan.model import PrometheusPlan
from crossfade.ports import SystemClock
from crossfade.processes import bound_logs
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.store import open_journal

_TIMEOUT_S = 2.0
"""Longest wait for Prometheus: the plan's may be longer, but a guard that waits is a guard that sleeps."""


def guard_of(home: Home, *, listen: str = "", reap_after_s: float = SHORTEST_S, reap_every_s: float = REAP_EVERY_S) -> Guard:
    """The guard of a home, with the real router, journal, Prometheus and Prefect behind it; raises UserError for bad settings."""
    settings = GuardSettings.from_environment(listen=listen)
    router, watchlist, outbox = EnvoyRouter(home.router), Watchlist(), Outbox(home.root / "guard-outbox")
    clock, prefect, told = SystemClock(), PrefectHttp(), threading.Event()
    vitals = Vitals(journal_queue=outbox.unwritten, event_queue=outbox.unannounced)
    tripper = Tripper(router=router, outbox=outbox, vitals=vitals, told=told)
    return Guard(
        home=home,
        router=router,
        clock=clock,
        metrics_for=_metrics,
        watchlist=watchlist,
        outbox=outbox,
        tripper=tripper,
        vitals=vitals,
        clerk=Clerk(
            watchlist=watchlist,
            outbox=outbox,
            router=router,
            open_journal=lambda: open_journal(home),
            events=PrefectEvents(prefect),
            vitals=vitals,
            reaper=Reaper(prefect, shortest_s=reap_after_s),
            reap_every_s=reap_every_s,
            bound_logs=partial(bound_logs, home.processes),
            clock=clock,
            wake=told,
        ),
        ear=Ear(settings, Reception(watchlist=watchlist, router=router, tripper=tripper, clock=clock), vitals, clock),
    )


def run(home: Home, *, listen: str = "") -> None:
    """Guard `home` until SIGTERM or SIGINT; raises UserError when another guard already watches it, or for bad settings.

    `listen` goes before `CROSSFADE_GUARD_LISTEN` (see `guard.settings`).
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("crossfade.guard").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _only_one(home):
        guard_of(home, listen=listen).run(stop)


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    home.root.mkdir(parents=True, exist_ok=True)
    with (home.root / "guard.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"a guard already watches {home.root}. Stop it first, or leave it: one is enough.") from None
        yield


def _metrics(plan: PrometheusPlan) -> PrometheusMetrics:
    return PrometheusMetrics(plan.url, timeout_s=min(plan.timeout, _TIMEOUT_S), stale_after_s=plan.stale_after)


if __name__ == "__main__":
    try:
        run(Home.from_environment())
    except CrossfadeError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the command's own last word
        sys.exit(error.exit_code)
