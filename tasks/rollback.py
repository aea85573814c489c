"""Complete a rollback: whoever tripped the route, afterwards it is verified, drained, journaled, explained, and people are told."""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, NotWrittenDown, PermanentError, Superseded, Unreachable
from crossfade.home import Home
from crossfade.ports import Entry, SystemClock
from crossfade.ramp.report import Breached
from crossfade.ramp.rollback import RolledBack
from crossfade.rollout.names import route_name
from crossfade.rollout.state import MigrationState
from crossfade.store import open_journal
from crossfade.way_back import bring_back
from crossfade.wiring import Bench, open_bench
from tasks.artifacts import publish, table
from tasks.notify import notify
from tasks.quiet import quiet_task

DRAIN_S = 60.0
"""Longest wait for streams that began on the target; they finish there in any case."""


@quiet_task("roll back {migration}", retries=10)
def roll_back(migration: str, why: str, by: str, attempt: int) -> str:
    """The source at 100 %, verified in the router's own dump, and the journal told.

    `attempt` is the one the breach was seen in, 0 for whichever is under way: a late event must not hit a later attempt. Tried again
    while the router does not show it yet, or the journal cannot be told.
    """

    def refuse_a_late_event(state: MigrationState) -> None:
        if attempt and state.attempt != attempt:
            raise Superseded(f"nothing to do: the breach belongs to attempt {attempt}, and {migration} is in attempt {state.attempt}")

    try:
        back = bring_back(migration, why=why, by=by, refuse=refuse_a_late_event)
    except Superseded as late:
        get_run_logger().info("%s", late)
        return str(late)
    _explain(migration, back, why, by, "streams that began on the target are finishing there")
    get_run_logger().info("%s: %s", migration, back.verified)
    return back.verified


@quiet_task("call for help with {migration}")
def call_for_help(migration: str, problem: Exception) -> str:
    """A message to the plan's notification blocks that a rollback did not come to its end; returns who was told."""
    where = "No user is on the target" if isinstance(problem, NotWrittenDown) else "Users may still be on the target"
    try:
        blocks = open_bench(migration).plan.notify
    except CrossfadeError as error:
        get_run_logger().error("nobody can be told that %s could not be rolled back, for its plan cannot be read: %s", migration, error)
        return "nobody: the plan cannot be read"
    what_now = f"See 'crossfade status', and run 'crossfade rollback {migration}' on the router's host."
    told = notify(blocks, f"Crossfade could not complete the rollback of {migration}", f"{where}: {problem} {what_now}")
    return ", ".join(told) or "nobody: the plan names no notification block"


@quiet_task("drain the target of {migration}", retries=2)
def drain(migration: str) -> str:
    """Wait until the target has no request of anybody left, so that it may be stopped; says what still ran."""
    try:
        drained = EnvoyRouter(Home.from_environment().router).drain("target", DRAIN_S, SystemClock())
    except (Unreachable, PermanentError) as error:
        return f"not seen: {error}"
    if drained.still_active:
        return f"{drained.still_active} requests still ran on the target after {drained.seconds:.0f} s"
    return f"the target was idle after {drained.seconds:.1f} s"


@quiet_task("explain and tell {migration}", retries=2)
def tell(migration: str, why: str, by: str, drained: str, schedule: str) -> str:
    """The artifact with the breach's evidence, and a message to the plan's notification blocks; returns who was told."""
    bench = open_bench(migration)
    state = bench.state()
    back = RolledBack(state, tripped_here=False, verified=f"{state.phase}, latch: {_latch(bench)}")
    _explain(migration, back, why, by, f"{drained}; {schedule}")
    told = notify(bench.plan.notify, f"Crossfade rolled {migration} back", f"{migration} is back on the source: {why}. {drained}.")
    return ", ".join(told) or "nobody: the plan names no notification block"


def _latch(bench: Bench) -> str:
    latch = bench.desk.router.latches().get(route_name(bench.migration))
    return f"{latch.why} (by {latch.by})" if latch else "none"


def _explain(migration: str, back: RolledBack, why: str, by: str, drained: str) -> None:
    rows = [
        ("why", why),
        ("asked for by", by),
        ("verified", back.verified),
        ("phase", back.state.phase),
        ("drained", drained),
    ]
    head = f"# {migration} is back on the source\n\n{table(('what', 'value'), rows)}\n"
    publish(migration, "rollback", head + _evidence(migration), f"rolled back: {why}")


def _evidence(migration: str) -> str:
    try:
        breaches = open_journal(Home.from_environment()).entries(migration, kind="breach", newest=3)
    except CrossfadeError as error:
        return f"\nThe journal could not be read for the evidence: {error}\n"
    if not breaches:
        return "\nNo breach was journaled: a person or the judge asked for it.\n"
    return "\n## The breach\n\n" + "\n\n".join(_told(entry) for entry in breaches) + "\n"


def _told(entry: Entry) -> str:
    breached = Breached.model_validate_json(entry.body)
    numbers = table(("counted", "value"), [(name, f"{value:g}") for name, value in breached.numbers.items()])
    return f"**{entry.subject}**: {breached.reason}\n\n{numbers}"
