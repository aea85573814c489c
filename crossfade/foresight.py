"""`crossfade ramp estimate PLAN`: by the baseline of a migration under way, else by the traffic Prometheus saw, else by `--rps`."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from crossfade.errors import CrossfadeError, GateFailed, UserError
from crossfade.home import Home
from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Blind
from crossfade.judge.rules import Rules
from crossfade.plan import Plan, load_plan
from crossfade.prometheus import queries
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.ramp.foresight import as_table, gates_that_cannot_pass
from crossfade.rollout.names import route_name
from crossfade.store import open_journal

_LOOK_BACK_S = 3600.0


def print_estimate(plan_file: str, requests_per_s: float, console: Console) -> None:
    """Print the steps; raises GateFailed when a gate of the plan can never pass, UserError when no traffic is known."""
    plan = load_plan(plan_file).plan
    for migration in plan.migration_names():
        rules = Rules(gates=dict(plan.gates), ramp=plan.ramp, judge=plan.judge, baseline=_baseline(migration))
        metrics = PrometheusMetrics(plan.prometheus.url, timeout_s=plan.prometheus.timeout, stale_after_s=plan.prometheus.stale_after)
        rate = requests_per_s or rules.baseline.requests_per_s or _measured(metrics, plan, migration)
        refused, unseen = gates_that_cannot_pass(metrics, rules, route_name(migration))
        found = as_table(rules, rate)
        table = Table(*found.header, title=migration, title_justify="left")
        for row in found.rows:
            table.add_row(*row)
        console.print(table)
        for line in (found.summary, *found.warnings, *unseen):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if refused:
            raise GateFailed("; ".join(f"gate {gate}: {why}" for gate, why in refused))


def _baseline(migration: str) -> Baseline:
    home = Home.from_environment()
    try:
        entries = open_journal(home).entries(migration, kind="outcome", subject="observe", newest=1)
    except CrossfadeError:
        return Baseline.none()
    return Baseline.model_validate_json(entries[0].body) if entries else Baseline.none()


def _measured(metrics: PrometheusMetrics, plan: Plan, migration: str) -> float:
    route = route_name(migration)
    both = " + ".join(queries.requests(route, arm, _LOOK_BACK_S) for arm in ("source", "target"))
    found = metrics.read("traffic", f"({both}) / {_LOOK_BACK_S:g}")
    if isinstance(found, Blind) or not found.value:
        why = found.why if isinstance(found, Blind) else f"{plan.prometheus.url} saw no request of {route} since {_clock()}"
        raise UserError(f"how much traffic {migration} has is not known: {why}. Say it with --rps, like --rps 10.")
    return found.value


def _clock() -> str:
    return time.strftime("%H:%M", time.localtime(time.time() - _LOOK_BACK_S))
