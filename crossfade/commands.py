"""The commands that act on migrations: start, look, bring back."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, GateFailed, PermanentError, Unreachable, UserError
from crossfade.home import Home
from crossfade.plan import load_plan
from crossfade.plan.units import format_share
from crossfade.ports import Entry
from crossfade.prefect_api import REFUSED, PrefectApi
from crossfade.ramp.logbook import Ruling
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.names import route_name
from crossfade.rollout.routes import RouteTable
from crossfade.store.journal import SqlJournal
from crossfade.wiring import open_bench


def start_migration(plan: str, console: Console, *, watch: bool) -> None:
    """Check the plan here, start the `migrate` deployment, and follow it; raises GateFailed with its message when it fails.

    Ctrl-C only ends the watching: it is said so, and KeyboardInterrupt goes on to the caller.
    """
    (migration,) = load_plan(plan).plan.migration_names()
    prefect = PrefectApi(os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api"))
    run_id = prefect.start("migrate/migrate", {"plan": str(Path(plan).resolve())})
    console.print(f"{migration}: {prefect.ui}/runs/flow-run/{run_id}", soft_wrap=True)
    if watch:
        try:
            _follow(prefect, run_id, migration, console)
        except KeyboardInterrupt:
            console.print(
                f"no longer watching; {migration} goes on. See 'crossfade status', end it with 'crossfade rollback {migration}'.",
                soft_wrap=True,
            )
            raise


def _follow(prefect: PrefectApi, run_id: str, migration: str, console: Console) -> None:
    shown = ""
    while True:
        run = prefect.flow_run(run_id)
        line = _line(migration)
        if line != shown:
            shown = line
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if run.ended:
            if run.state_name == REFUSED:
                raise UserError(run.message)
            if run.state != "COMPLETED":
                raise GateFailed(run.message or f"the flow run ended as {run.state}")
            return
        time.sleep(1)


def show_status(console: Console, name: str) -> None:
    """One row a migration. What the router really does is read from the router, not believed."""
    home = Home.from_environment()
    journal = SqlJournal(home.journal)
    states = [journal.state(name)] if name else journal.states()
    if not states:
        console.print("no migrations yet. Begin with: crossfade migrate PLAN")
        return
    router = EnvoyRouter(home.router)
    for state in states:
        route = route_name(state.name)
        latch = router.latches().get(route)
        table = Table(
            title=f"{state.name}, attempt {state.attempt}", title_justify="left", show_header=False, width=min(console.width, 120)
        )
        for what, value in (
            ("phase", f"{state.phase}: {state.because}"),
            ("share on the target", f"asked {format_share(state.share_bp)}, in the route file {_share(router.table(), route)}"),
            ("in the router's dump", _observed(router, route)),
            ("latch", f"{latch.why} (by {latch.by})" if latch else "none"),
            ("last decision", _last_decision(journal.entries(state.name))),
        ):
            table.add_row(what, Text(value))
        console.print(table)


def roll_back_now(console: Console, name: str, why: str) -> None:
    """Trip the route, verify, journal. With the journal down the route is tripped all the same; a later tick writes it down."""
    by = f"person {os.environ.get('USER', '')}".strip()
    try:
        back = roll_back(open_bench(name).desk, name, why=why, by=by)
    except UserError:
        raise
    except (PermanentError, Unreachable) as error:
        _trip_alone(console, name, why, by, error)
        return
    console.print(f"{name}: {back.state.phase}; {back.verified}.", markup=False, soft_wrap=True)


def _trip_alone(console: Console, name: str, why: str, by: str, error: CrossfadeError) -> None:
    router = EnvoyRouter(Home.from_environment().router)
    applied = router.trip(route_name(name), why=why, by=by, at_s=time.time())
    share = format_share(applied.table.route(route_name(name)).share_bp)
    console.print(f"{name}: {share} on the target, latched. The journal was not told: {error}", markup=False, soft_wrap=True)
    console.print("The next tick or reconcile finds the latch and writes it down.")


def _line(migration: str) -> str:
    try:
        state = SqlJournal(Home.from_environment().journal).state(migration)
    except CrossfadeError:
        return "waiting for a worker to take the run"
    return f"{state.phase}, {format_share(state.share_bp)} on the target: {state.because}"


def _share(table: RouteTable, route: str) -> str:
    return next((format_share(known.share_bp) for known in table.routes if known.name == route), "no route")


def _observed(router: EnvoyRouter, route: str) -> str:
    try:
        return _share(router.observed(), route)
    except Unreachable as error:
        return f"unknown: {error}"


def _last_decision(entries: Sequence[Entry]) -> str:
    for entry in reversed(entries):
        if entry.kind == "decision":
            verdict = Ruling.model_validate_json(entry.body).verdict
            return f"{verdict.decision} before {entry.subject}: {verdict.reason}"
    return ""
