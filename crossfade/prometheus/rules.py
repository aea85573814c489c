"""A plan's limits as alerting rules, for people whose alerts come from Prometheus.

An alert says what a query over a window says: it knows nothing of the judge's error budget, extrapolates, and may fire on a handful of
requests. It is an addition to guard and judge, never in their place.

| label | value |
|---|---|
| `crossfade_migration` | the migration, `plan/model` |
| `crossfade_gate` | the gate's name, `guard_errors` or `guard_slow` |
| `crossfade_limit` | which limit of the gate, as the plan calls it |
| `severity` | `critical`: the plan rolls back for this; `warning`: the plan only holds |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import yaml

from crossfade.plan.gates import ErrorRateGate, Gate, LatencyGate, PromqlGate, latency_name
from crossfade.plan.model import GuardPlan, Plan
from crossfade.plan.units import format_seconds
from crossfade.prometheus import queries
from crossfade.rollout.names import route_name

WINDOW_S = 300.0
"""Over how long the gates' rates are taken, and how long a limit must be missed: a judge's whole evidence has no equal in an alert."""


@dataclass(frozen=True)
class _Alert:
    gate: str
    limit: str
    expr: str
    severity: Literal["critical", "warning"]
    for_s: float
    summary: str

    def rule(self, migration: str) -> dict[str, object]:
        labels = {"crossfade_gate": _literal(self.gate), "crossfade_limit": self.limit, "severity": self.severity}
        return {
            "alert": "CrossfadeBreach" if self.severity == "critical" else "CrossfadeGate",
            "expr": self.expr,
            "for": f"{round(self.for_s * 1000)}ms",
            "labels": {"crossfade_migration": migration, **labels},
            "annotations": {
                "summary": _literal(f"{migration}: {self.summary}"),
                "value": "{{ $value }}",
                "next_action": _next(self, migration),
            },
        }


def alert_rules(plan: Plan, migration: str, *, bounds_ms: Sequence[float]) -> str:
    """A rule file for one migration of a plan, as YAML text.

    `bounds_ms` are the router's histogram bounds (`PrometheusMetrics.bounds`): a limit between two of them becomes the upper one, over
    which a request is slow for certain. A latency limit above all of them has no rule.
    """
    alerts = [*_of_the_guard(plan.guard, route_name(migration), bounds_ms)]
    for name, gate in plan.gates.items():
        alerts += _of_a_gate(name, gate, route_name(migration), bounds_ms)
    group = {"name": f"crossfade {migration}", "rules": [alert.rule(migration) for alert in alerts]}
    return yaml.safe_dump({"groups": [group]}, sort_keys=False, allow_unicode=True, width=10_000)


def _of_the_guard(guard: GuardPlan, route: str, bounds_ms: Sequence[float]) -> Iterator[_Alert]:
    """The guard's own hard breach, as near as a rate comes to it; it fires at once."""
    window_s = guard.window
    failed, share = queries.errors(route, "target", window_s), queries.failure_share(route, "target", window_s)
    yield _Alert(
        "guard_errors",
        "error_share_above",
        f"({failed} >= {guard.errors_at_least}) and ({share} > {guard.error_share_above:g})",
        "critical",
        0,
        f"more than {_percent(guard.error_share_above)} of the target's requests failed within {format_seconds(window_s)}",
    )
    bound = _bound_above(guard.slow_after, bounds_ms)
    if bound is not None:
        slow = queries.slow_requests(route, "target", "ttft", bound, window_s)
        share = queries.slow_share(route, "target", "ttft", bound, window_s)
        yield _Alert(
            "guard_slow",
            "slow_share_above",
            f"({slow} >= {guard.errors_at_least}) and ({share} > {guard.slow_share_above:g})",
            "critical",
            0,
            f"more than {_percent(guard.slow_share_above)} of the target's answers began after over {format_seconds(bound / 1000)}",
        )


def _of_a_gate(name: str, gate: Gate, route: str, bounds_ms: Sequence[float]) -> Iterator[_Alert]:
    match gate:
        case PromqlGate():
            side, limit = (">=", gate.below) if gate.below is not None else ("<=", gate.above)
            severity: Literal["critical", "warning"] = "critical" if gate.breach == "roll_back" else "warning"
            expr = f"({gate.promql}\n) {side} {limit!r}"  # a query may end in a comment
            limited_by = "below" if gate.below is not None else "above"
            yield _Alert(name, limited_by, expr, severity, 0, f"gate {name} is {side} its limit {limit!r}")
        case ErrorRateGate():
            yield from _of_error_rate(name, gate, route)
        case LatencyGate():
            yield from _of_latency(name, gate, route, bounds_ms)


def _of_error_rate(name: str, gate: ErrorRateGate, route: str) -> Iterator[_Alert]:
    target = queries.failure_share(route, "target", WINDOW_S)
    if gate.at_most is not None:
        said = f"the target fails more than {_percent(gate.at_most)} of its requests"
        yield _Alert(name, "at_most", f"{target} > {gate.at_most:g}", "warning", WINDOW_S, said)
    if gate.no_worse_than_source is not None:
        times = gate.no_worse_than_source
        source = queries.failure_share(route, "source", WINDOW_S)
        expr = f"({target}) > {times:g} * ({source})"
        said = f"the target fails more than {times:g} times as often as the source"
        yield _Alert(name, "no_worse_than_source", expr, "warning", WINDOW_S, said)


def _of_latency(name: str, gate: LatencyGate, route: str, bounds_ms: Sequence[float]) -> Iterator[_Alert]:
    measure, quantile = latency_name(name)
    bound = _bound_above(gate.at_most, bounds_ms) if gate.at_most is not None else None
    if bound is not None:
        expr = f"({queries.slow_share(route, 'target', measure, bound, WINDOW_S)}) > {1 - quantile:.6g}"
        yield _Alert(name, "at_most", expr, "warning", WINDOW_S, f"the target's {name} is over {format_seconds(bound / 1000)}")
    if gate.no_worse_than_source is not None:
        target = queries.percentile(route, "target", measure, quantile, WINDOW_S)
        source = queries.percentile(route, "source", measure, quantile, WINDOW_S)
        times = gate.no_worse_than_source
        expr = f"{target} > {times:g} * {source}"
        said = f"the target's {name} is over {times:g} times the source's"
        yield _Alert(name, "no_worse_than_source", expr, "warning", WINDOW_S, said)


def _bound_above(limit_ms: float, bounds_ms: Sequence[float]) -> int | None:
    return min((round(bound) for bound in bounds_ms if bound >= limit_ms - 1e-9), default=None)


def _literal(text: str) -> str:
    """Labels and annotations are templates."""
    return text.replace("{{", '{{ "{{" }}')


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _next(alert: _Alert, migration: str) -> str:
    if alert.severity == "critical":
        return f"the plan rolls back for this: crossfade status {migration} shows whether it has, crossfade rollback {migration} does it"
    return f"the ramp holds while this lasts: crossfade status {migration} shows its gates"
