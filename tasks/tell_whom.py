"""Whom to tell when no single migration is meant."""

from __future__ import annotations

from prefect import task

from crossfade.home import Home
from crossfade.store import open_journal
from crossfade.wiring import open_bench


@task(name="whom to tell", persist_result=False)
def blocks_of_all_plans() -> list[str]:
    """Notification blocks of all migrations that have not ended, each once."""
    under_way = [state.name for state in open_journal(Home.from_environment()).states() if not state.ended]
    return sorted({block for name in under_way for block in open_bench(name).plan.notify})
