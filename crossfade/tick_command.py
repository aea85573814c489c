"""`crossfade tick NAME`: one tick, as the schedule would do it, without Prefect."""

from __future__ import annotations

from crossfade.plan.units import format_share


def tick_once(name: str) -> str:
    """Judge a migration once and move it at most one step; what was done and why, in one line.

    For a machine whose Prefect is down, or a scheduler of one's own. Any number may run at once, here and in Prefect: the journal's
    version and the route table's generation let one of them move. Raises UnknownMigration, StaleWriter when another one was quicker
    (nothing is lost: the next tick judges again), and what journal and router raise.
    """
    from crossfade.ramp.tick import tick  # what a command needs is imported when it runs, so that --help is quick
    from crossfade.wiring import open_bench

    ticked = tick(open_bench(name).desk, name)
    return f"{name}: {ticked.did}, {ticked.state.phase} with {format_share(ticked.state.share_bp)} on the target. {ticked.reason}"
