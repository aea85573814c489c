"""Complete a rollback: whoever tripped the route, afterwards it is verified, journaled and explained."""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.ramp.rollback import roll_back as put_back
from crossfade.wiring import open_bench
from tasks.artifacts import publish, table
from tasks.quiet import quiet_task


@quiet_task("roll back {migration}", retries=10)
def roll_back(migration: str, why: str, by: str, attempt: int) -> str:
    """The source at 100 %, verified in the router's own dump, and the journal told.

    `attempt` is the one the breach was seen in, 0 for whichever is under way: a late event must not hit a later attempt.
    """
    bench = open_bench(migration)
    state = bench.state()
    if attempt and state.attempt != attempt:
        line = f"nothing to do: the breach belongs to attempt {attempt}, and {migration} is in attempt {state.attempt}"
        get_run_logger().info(line)
        return line
    back = put_back(bench.desk, migration, why=why, by=by)
    rows = [
        ("why", why),
        ("tripped by", by if back.tripped_here else "the guard, before this run"),
        ("verified", back.verified),
        ("phase", back.state.phase),
    ]
    publish(migration, "rollback", f"# {migration} is back on the source\n\n{table(('what', 'value'), rows)}\n", f"rolled back: {why}")
    get_run_logger().info("%s: %s", migration, back.verified)
    return back.verified
