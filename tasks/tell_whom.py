"""Whom to tell when no single migration is meant."""

from __future__ import annotations

from prefect import get_run_logger, task

from crossfade.errors import CrossfadeError
from crossfade.home import Home
from crossfade.store import open_journal
from crossfade.wiring import open_bench


@task(name="whom to tell", persist_result=False)
def blocks_of_all_plans() -> list[str]:
    """Notification blocks of all migrations that have not ended, each once. A plan or journal that cannot be read is logged: an alarm
    that fails because something else is broken, too, tells nobody."""
    try:
        under_way = [state.name for state in open_journal(Home.from_environment()).states() if not state.ended]
    except CrossfadeError as error:
        get_run_logger().error("nobody can be told, for the journal cannot be read: %s", error)
        return []
    return sorted({block for name in under_way for block in _blocks(name)})


def _blocks(migration: str) -> tuple[str, ...]:
    try:
        return tuple(open_bench(migration).plan.notify)
    except CrossfadeError as error:
        get_run_logger().error("whom %s would tell cannot be read: %s", migration, error)
        return ()
