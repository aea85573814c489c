"""One tick of the ramp as a task, with the table a person reads."""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.plan.units import format_share
from crossfade.ramp.tick import Ticked
from crossfade.ramp.tick import tick as tick_once
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.artifacts import publish, ruling
from tasks.notify import ask_a_person
from tasks.quiet import quiet_task
from tasks.stage import still_on


@quiet_task("tick {attempt}")
def tick(attempt: Attempt) -> Ticked:
    """Judge the evidence since the last move and move at most one step. What a person should hear of goes to `notify:`."""
    bench = open_bench(attempt.migration)
    if bench.state().attempt != attempt.number:
        still_on(bench, attempt)
    ticked = tick_once(bench.desk, attempt.migration)
    head = f"# {attempt}: {ticked.did}, {format_share(ticked.state.share_bp)} on the target\n\n{ticked.reason}\n\n"
    publish(attempt.migration, "tick", head + (ruling(ticked.ruled) if ticked.ruled else ""), f"{ticked.did}: {ticked.reason}")
    ask_a_person(attempt, ticked.tell)
    get_run_logger().info("%s %s: %s", format_share(ticked.state.share_bp), ticked.did, ticked.reason)
    return ticked
