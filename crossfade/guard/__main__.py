"""`python -m crossfade.guard`: watch the routes of CROSSFADE_HOME until a signal."""

from __future__ import annotations

import fcntl
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, UserError
from crossfade.guard.clerk import Clerk
from crossfade.guard.events import PrefectEvents
from crossfade.guard.outbox import Outbox
from crossfade.guard.watch import Guard
from crossfade.guard.watchlist import Watchlist
from crossfade.home import Home
from crossfade.plan.model import PrometheusPlan
from crossfade.ports import SystemClock
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.store.journal import SqlJournal

_TIMEOUT_S = 2.0
"""Longest wait for Prometheus: the plan's may be longer, but a guard that waits is a guard that sleeps."""


def guard_of(home: Home) -> Guard:
    """The guard of a home, with the real router, journal, Prometheus and Prefect behind it."""
    router, watchlist, outbox = EnvoyRouter(home.router), Watchlist(), Outbox(home.root / "guard-outbox")
    clerk = Clerk(watchlist=watchlist, outbox=outbox, router=router, open_journal=lambda: SqlJournal(home.journal), events=PrefectEvents())
    return Guard(home=home, router=router, clock=SystemClock(), metrics_for=_metrics, watchlist=watchlist, outbox=outbox, clerk=clerk)


def run(home: Home) -> None:
    """Guard `home` until SIGTERM or SIGINT; raises UserError when another guard already watches it."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("crossfade.guard").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _only_one(home):
        guard_of(home).run(stop)


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
