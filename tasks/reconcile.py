"""Reconcile journal and route folder."""

from __future__ import annotations

from prefect import get_run_logger, task

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import PermanentError, StaleWriter
from crossfade.home import Home
from crossfade.plan.units import format_share
from crossfade.ramp.reconcile import reconcile
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import AT_SOURCE, Phase
from crossfade.rollout.state import Attempt
from crossfade.store import open_journal
from crossfade.wiring import open_bench
from tasks.artifacts import publish
from tasks.notify import ask_a_person
from tasks.quiet import quiet_task


@task(name="list migrations under way", persist_result=False)
def list_under_way() -> list[str]:
    """Names of all migrations that have not ended, and of those that ended at the source while the router has users on their target."""
    home = Home.from_environment()
    with_users = _with_users(EnvoyRouter(home.router))
    return [
        state.name
        for state in open_journal(home).states()
        if not state.ended or (state.phase in AT_SOURCE and route_name(state.name) in with_users)
    ]


def _with_users(router: EnvoyRouter) -> frozenset[str]:
    """Routes with a share on their target; none where the table cannot be read, which those under way will tell of."""
    try:
        return frozenset(route.name for route in router.table().routes if route.share_bp > 0)
    except PermanentError:
        return frozenset()


@quiet_task("reconcile {migration}", retry_delay_s=5)
def reconcile_one(migration: str) -> None:
    """The lower of journal and router holds; the artifact says which phase and share that is. People are told of a rollback found here."""
    desk = open_bench(migration).desk
    before = desk.journal.state(migration)
    try:
        state = reconcile(desk, migration)
    except StaleWriter as busy:
        get_run_logger().info("%s", busy)  # a tick is moving it this very moment, and reconciles by itself
        return
    line = f"{state.phase}, {format_share(state.share_bp)} on the target: {state.because}"
    publish(migration, "status", f"# {migration}\n\n{line}\n", line)
    get_run_logger().info("%s: %s", migration, line)
    if state.phase is Phase.ROLLED_BACK and state != before:
        ask_a_person(Attempt(state.name, state.attempt), f"rolled back: {state.because}")
