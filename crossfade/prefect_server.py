"""`python -m crossfade.prefect_server ARGS`: `prefect server start ARGS` that does not stand still for a minute now and then on SQLite.

Python collects cyclic garbage in whatever thread happens to allocate, in the server mostly its event loop. A database cursor among the
garbage resets its statement, for which SQLite wants the mutex of the connection. Another thread may hold that one, waiting up to a minute
for the database's write lock; and whoever has the write lock cannot commit, because the event loop stands still. Then all requests
wait for 60 s, and many end with `database is locked` (seen with Prefect 3.8.8, aiosqlite 0.22.1 and Python 3.11 under twenty ramps:
docs/benchmarks/ticks.md). Where garbage is collected in a thread of its own, only that thread waits.

A server on PostgreSQL has no such trouble, and needs none of this.
"""

from __future__ import annotations

import gc
import runpy
import sys
import threading

_STARTED_AFTER_S = 20.0
"""When what the server has imported is taken out of what is looked through from then on; half a million objects that stay."""

_YOUNG_EVERY_S, _ALL_EVERY = 1.0, 60
"""Seconds between looks at young garbage, and after how many of them all of it is collected."""

_YOUNG = 20_000
"""New objects that are worth a collection: some milliseconds in which no other thread runs."""


def collect_aside(*, started_after_s: float = _STARTED_AFTER_S, every_s: float = _YOUNG_EVERY_S) -> None:
    """Collect garbage in a thread of its own from now on, and nowhere else in this process."""
    gc.disable()
    threading.Thread(target=_collect, args=(started_after_s, every_s), name="garbage", daemon=True).start()


def _collect(started_after_s: float, every_s: float) -> None:
    pause = threading.Event()
    pause.wait(started_after_s)
    gc.collect()
    gc.freeze()
    while True:
        for _ in range(_ALL_EVERY):
            pause.wait(every_s)
            if gc.get_count()[0] > _YOUNG:
                gc.collect(1)
        gc.collect()


def main() -> None:
    """Be Prefect's own command line, with the garbage collected aside."""
    collect_aside()
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
