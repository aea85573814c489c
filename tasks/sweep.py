"""Tick all migrations that are due, and the table of what became of those worth telling of."""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.home import Home
from crossfade.plan.units import format_share
from crossfade.sweep import Sweep, Swept, summary, worth_telling
from crossfade.sweep import sweep as sweep_home
from tasks.artifacts import publish_as, table
from tasks.notify import ask_a_person
from tasks.quiet import quiet_task

_ROWS = 200
"""Most migrations one artifact tells of; the journal has all of them."""


@quiet_task("tick all that are due")
def tick_due(within_s: float) -> Sweep:
    """One tick for each migration of this home that is due; none is begun after `within_s` seconds. The artifact `sweep` tells of it.

    What a person should hear of goes to the `notify:` of that plan."""
    done = sweep_home(Home.from_environment(), within_s=within_s)
    line, told = summary(done), worth_telling(done.swept)
    publish_as("sweep", f"# {line}\n\nIn {done.seconds:.1f} s.\n\n{_told(told)}\n", line)
    for one in told:
        get_run_logger().info("%s: %s, %s on the target. %s", one.attempt, one.became, format_share(one.share_bp), one.reason)
    for one in done.swept:
        ask_a_person(one.attempt, one.tell)
    get_run_logger().info(line)
    return done


def _told(told: list[Swept]) -> str:
    if not told:
        return "All that had a tick stay where they are."
    rows = [(one.attempt, one.became.replace("_", " "), format_share(one.share_bp), one.reason) for one in told[:_ROWS]]
    more = f"\n\n{len(told) - _ROWS} more are in the journal." if len(told) > _ROWS else ""
    return table(("migration", "became", "on the target", "why"), rows) + more
