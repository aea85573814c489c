"""The commands that act on migrations: start, look, bring back."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.console import Console

from crossfade.errors import CrossfadeError, GateFailed, NotWrittenDown, UserError
from crossfade.home import Home
from crossfade.plan import load_plan
from crossfade.plan.units import format_share
from crossfade.prefect_api import REFUSED, PrefectApi
from crossfade.ramp.rollback import Refuse, nothing_against
from crossfade.rollout.phases import Phase
from crossfade.store import open_journal
from crossfade.way_back import bring_back


def start_migration(plan: str, console: Console, *, watch: bool, inline: bool = False) -> None:
    """Check the plan here, start the `migrate` deployment, and follow the migration until it has ended, also through its scheduled
    ticks; raises GateFailed with its message when it fails or was rolled back.

    Ctrl-C only ends the watching: it is said so, and KeyboardInterrupt goes on to the caller.
    """
    (migration,) = load_plan(plan).plan.migration_names()
    prefect = PrefectApi(os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api"))
    run_id = prefect.start("migrate/migrate", {"plan": str(Path(plan).resolve()), "inline": inline})
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
            if _has_ended(migration):
                return
        time.sleep(1)


def _has_ended(migration: str) -> bool:
    state = open_journal(Home.from_environment()).state(migration)
    if state.phase is not Phase.FINISHED and state.ended:
        raise GateFailed(f"{migration} is {state.phase}: {state.because}")
    return state.ended


def roll_back_now(console: Console, name: str, why: str, *, by: str = "", refuse: Refuse = nothing_against) -> None:
    """Trip the route, verify, journal. With the journal down the route is tripped all the same; a later tick writes it down."""
    by = by or f"person {os.environ.get('USER', '')}".strip()
    try:
        said = f"{bring_back(name, why=why, by=by, refuse=refuse)}."
    except NotWrittenDown as all_but_told:
        said = str(all_but_told)
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def _line(migration: str) -> str:
    try:
        state = open_journal(Home.from_environment()).state(migration)
    except CrossfadeError:
        return "waiting for a worker to take the run"
    return f"{state.phase}, {format_share(state.share_bp)} on the target: {state.because}"
