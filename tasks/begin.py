"""Put a plan into the journal and name its migration."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger

from crossfade.errors import Superseded
from crossfade.home import Home
from crossfade.plan import PlanSource, load_plan
from crossfade.plan.show import show_plan
from crossfade.ports import SystemClock
from crossfade.rollout.names import route_name
from crossfade.rollout.state import Attempt, MigrationState
from crossfade.store import open_journal
from crossfade.store.journal import SqlJournal
from tasks.artifacts import publish
from tasks.quiet import quiet_task


@quiet_task("begin")
def begin(plan: str) -> Attempt:
    """The attempt to drive, with its plan stored as it is now; later edits of the file change nothing that runs.

    A migration under way with the very same plan is resumed where it stands; with another plan it is refused.
    """
    source = load_plan(plan)
    (migration,) = source.plan.migration_names()
    begun = begin_or_resume(open_journal(Home.from_environment()), source, migration)
    publish(
        migration,
        "plan",
        f"# {migration}, attempt {begun.attempt}\n\n{source.plan.note}\n\n```yaml\n{show_plan(source.plan)}```\n",
        f"plan {source.digest[:12]}, attempt {begun.attempt}",
    )
    get_run_logger().info("%s: attempt %d begins at phase %s", migration, begun.attempt, begun.phase)
    return Attempt(migration, begun.attempt)


def begin_or_resume(journal: SqlJournal, source: PlanSource, migration: str) -> MigrationState:
    """The state to go on from. The stored text is the plan with its paths made absolute; its digest tells plans apart."""
    stored = show_plan(source.plan)
    digest = PlanSource(source.plan, stored, source.origin).digest
    known = [state for state in journal.states() if state.name == migration]
    if known and not known[0].ended and known[0].plan_digest == digest:
        return known[0]
    now_s = SystemClock().now_s()
    first = MigrationState(
        name=migration, plan_digest=digest, phase_since_s=now_s, share_since_s=now_s, because=f"plan {Path(source.origin).name}"
    )
    return journal.begin(first, stored)


@contextmanager
def only_run_of(attempt: Attempt) -> Iterator[None]:
    """Hold the migration for this run; the kernel lets go when the process ends, however it ends. Raises Superseded when another has it."""
    folder = Home.from_environment().root / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{route_name(attempt.migration)}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Superseded(f"another run is driving {attempt.migration} now. Wait for it, or end it with 'crossfade rollback'.") from None
        yield
