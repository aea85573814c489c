"""The router's metrics by name, what their labels mean, and the PromQL that asks for them.

Requests are labelled by whose share they belonged to (`intended`) and by who answered (`engine`). A request meant for the
target that the source answered is a failure of the target, although its client saw a 200.

What decides is counted from raw samples (`evidence`, then `crossfade.prometheus.increase`); the queries further down extrapolate to
the edges of their window, see nothing of a series' first value, and are for people to look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal

from crossfade.plan.gates import MEASURES, Measure

REQUESTS: Final = "envoy_cf_requests"
BUCKETS: Final[Mapping[Measure, str]] = {"ttft": "envoy_cf_ttft_bucket", "duration": "envoy_cf_duration_bucket"}
ROUTER_ALIVE: Final = "envoy_http_rds_update_attempt"
"""Always there while the router is scraped, also before the first request of a route; of other Envoys it says another prefix."""

SCRAPE_AGE: Final = "time() - max(timestamp(up))"
"""Seconds since Prometheus last scraped anything."""

ROUTER_UPTIME: Final = "envoy_server_uptime"
"""Whole seconds since this process of the router began; with hot restart switched off, that is also when its counters did."""

SHADOW_REQUESTS: Final = "envoy_cluster_upstream_rq_xx"
SHADOW_BUCKETS: Final = "envoy_cluster_upstream_rq_time_bucket"
"""Mirrored requests are in no access log: only their cluster counts them, by class of status and by time to the end of the reply."""

SPENT_MS: Final = "envoy_cf_duration_sum"
"""Milliseconds that requests took, all together."""

BUSIEST_OVER_S: Final = 7 * 86_400
"""A week has every hour of every weekday."""

_ROUTER_PREFIX: Final = "llm"
_ACTIVE: Final = "envoy_cluster_upstream_rq_active"

Arm = Literal["source", "target"]

ENGINE: Final[Mapping[Arm, str]] = {"source": "source", "target": "target"}
"""Value of `engine` when the arm's own engine answered."""

INTENDED: Final[Mapping[Arm, tuple[str, ...]]] = {"source": ("source",), "target": ("target", "broken")}
"""Values of `intended` per arm. `broken` is the rehearsal's port that nobody listens on: the target of that hidden route."""

NOBODY: Final = "-"
CLIENT_LEFT: Final = "DC"
FAILED_FLAGS: Final = frozenset(
    {"UH", "UF", "UO", "UT", "LR", "UR", "UC", "UPE", "URX", "SI", "DT", "NR", "NC", "OM", "UMSDR", "DF", "DPE"}
)
"""Response flags of requests that were cut or never served; a stream cut half-way has code 200 and only such a flag."""

Fate = Literal["answered", "failed", "left_out"]


def arm_of(intended: str) -> Arm | Literal["none"]:
    """Whose share a request belonged to; `none` for values the router does not use."""
    for arm, values in INTENDED.items():
        if intended in values:
            return arm
    return "none"


def fate(arm: Arm, engine: str, code: str, flags: str) -> Fate:
    """What became of a request of `arm`.

    Left out are requests whose client went away, and those the router itself refused before asking anybody (too large).
    """
    raised = set(flags.split(","))
    if raised & FAILED_FLAGS or code.startswith("5"):
        return "failed"
    if CLIENT_LEFT in raised:
        return "left_out"
    if engine == NOBODY:
        return "left_out" if code.startswith("4") else "failed"
    return "answered" if engine == ENGINE[arm] else "failed"


def evidence(route: str, target: str = "", measures: Collection[Measure] = MEASURES) -> tuple[str, str]:
    """Selectors of what is counted for a route, and of what is not kept by route: the sign of life, and what was mirrored to a target.

    Mirrored requests are counted per target, so routes that share a target share its shadow; `target` names a further one. They are two,
    because one selector for both would have to match series without the label `route`, and for that Prometheus looks at every series
    there is: with a thousand routes a tenth of a second each time.
    """
    timed = [name for measure, name in BUCKETS.items() if measure in measures]
    of_route = f'{{__name__=~"{"|".join((REQUESTS, *timed))}",route={_quoted(route)}}}'
    names = "|".join((ROUTER_ALIVE, SHADOW_REQUESTS, *([SHADOW_BUCKETS] if "duration" in measures else [])))
    labels = {"envoy_http_conn_manager_prefix": _ROUTER_PREFIX, "envoy_cluster_name": re.escape(shadow_cluster(target))}
    only = ",".join(f"{label}=~{_quoted(f'{value}|')}" for label, value in labels.items())
    return of_route, f'{{__name__=~"{names}",{only}}}'


def buckets(route: str, measure: Measure) -> str:
    """Selector of a latency histogram's bounds; of every route for the empty name."""
    return f"{BUCKETS[measure]}{{route={_quoted(route)}}}" if route else BUCKETS[measure]


def sign_of_life() -> str:
    """Selector of the router's sign of life: a sample of it is a scrape that succeeded."""
    return f"{ROUTER_ALIVE}{{envoy_http_conn_manager_prefix={_quoted(_ROUTER_PREFIX)}}}"


def silence() -> str:
    """Seconds since Prometheus last read the router, if it did within a day."""
    return f"time() - max(max_over_time(timestamp({sign_of_life()})[1d:1m]))"


def uptime(job: str, instance: str) -> str:
    """Selector of the uptime of one process of the router."""
    return f"{ROUTER_UPTIME}{{job={_quoted(job)},instance={_quoted(instance)}}}"


def last(selector: str, span_s: float) -> str:
    """The newest sample of each series within `span_s`.

    Unlike the selector itself it also finds series that Prometheus marked stale, as it does with all series of an endpoint when one
    scrape of it fails.
    """
    return f"last_over_time({over(selector, span_s)})"


def scrapes(job: str, instance: str) -> str:
    """Selector of Prometheus' own record of whether it could read an endpoint."""
    return f"up{{job={_quoted(job)},instance={_quoted(instance)}}}"


def over(selector: str, span_s: float) -> str:
    """The raw samples of `selector` over the last `span_s` seconds."""
    return f"{selector}[{max(1, round(span_s * 1000))}ms]"


def errors(route: str, arm: Arm, window_s: float) -> str:
    """Requests of an arm that failed, by `fate`: cut streams and failures hidden by failover count, clients that left do not.

    0 when nothing failed or nobody asked.
    """
    return f"({_sum(_failed(route, arm), window_s)} or vector(0))"


def requests(route: str, arm: Arm, window_s: float) -> str:
    """Requests of an arm that were answered or failed; 0 when nobody asked."""
    return f"({_sum((*_failed(route, arm), _answered(route, arm)), window_s)} or vector(0))"


def failure_share(route: str, arm: Arm, window_s: float) -> str:
    """Share of an arm's requests that failed, failures hidden by failover included. Total failure reads 1, no traffic NaN."""
    return f"{errors(route, arm, window_s)} / {requests(route, arm, window_s)}"


def slow_requests(route: str, arm: Arm, measure: Measure, bound_ms: int, window_s: float) -> str:
    """Answers slower than `bound_ms`, which must be one of the histogram's bounds; no data while none was timed."""
    everything, within = _timed(route, arm, measure, bound_ms, window_s)
    return f"{everything} - {within}"


def slow_share(route: str, arm: Arm, measure: Measure, bound_ms: int, window_s: float) -> str:
    """Share of answers slower than `bound_ms`, which must be one of the histogram's bounds."""
    everything, within = _timed(route, arm, measure, bound_ms, window_s)
    return f"1 - {within} / {everything}"


def percentile(route: str, arm: Arm, measure: Measure, quantile: float, window_s: float) -> str:
    """A percentile of an arm's answers in milliseconds, interpolated between two bounds; NaN without answers."""
    return f"histogram_quantile({quantile:g}, sum by (le) (rate({BUCKETS[measure]}{{{_own(route, arm)}}}[{_ms(window_s)}])))"


def observed_share(route: str, window_s: float) -> str:
    """Share of the route's requests that were really meant for the target; NaN without traffic."""
    label = f"route={_quoted(route)}"
    meant = f"{label},intended=~{_quoted('|'.join(INTENDED['target']))}"
    return f"({_sum((meant,), window_s)} or vector(0)) / ({_sum((label,), window_s)} or vector(0))"


def share_off(route: str, asked_bp: int, window_s: float) -> str:
    """How far the observed share is from the one asked for: 0.01 is one request in a hundred too many on the target."""
    return f"{observed_share(route, window_s)} - {asked_bp / 10_000}"


def active_requests(arm: Arm, target: str = "") -> str:
    """Requests an engine is working on right now, over all routes and router processes; `target` names a further target."""
    return f"sum({_ACTIVE}{{envoy_cluster_name={_quoted(_cluster(arm, target))}}})"


def busiest(route: str, window_s: float = BUSIEST_OVER_S) -> str:
    """Most requests of a route under way at once, as means over five minutes: by Little's law the time they take, by the time it took.

    No data while nobody asked.
    """
    at_once = f"sum(rate({SPENT_MS}{{route={_quoted(route)}}}[5m])) / 1000"
    return f"max_over_time(({at_once})[{_ms(window_s)}:1m])"


def shadow_requests(window_s: float, target: str = "") -> str:
    """Mirrored requests a target answered or failed, over all routes; 0 when there were none."""
    return f"({_shadow('', window_s, target)} or vector(0))"


def shadow_failure_share(window_s: float, target: str = "") -> str:
    """Share of mirrored requests that ended with a 5xx or found no target; NaN when nothing is mirrored."""
    failed = _shadow(',envoy_response_code_class="5"', window_s, target)
    return f"({failed} or vector(0)) / {shadow_requests(window_s, target)}"


def shadow_cluster(target: str = "") -> str:
    """Under which name the router counts what it mirrors to a target."""
    return f"{_cluster('target', target)}_shadow"


def _failed(route: str, arm: Arm) -> tuple[str, ...]:
    """Labels of requests that `fate` calls failed, as selectors no two of which need be disjoint."""
    meant, own = _meant(route, arm), _quoted(ENGINE[arm])
    stayed = f"flags!~{_among((CLIENT_LEFT,))}"
    return (
        f"{meant},flags=~{_among(FAILED_FLAGS)}",
        f"{meant},code=~{_quoted('5..')}",
        f"{meant},{stayed},engine!={own},engine!={_quoted(NOBODY)}",
        f"{meant},{stayed},engine={_quoted(NOBODY)},code!~{_quoted('4..')}",  # 4xx of nobody: refused by the router itself
    )


def _answered(route: str, arm: Arm) -> str:
    bad = _among((*FAILED_FLAGS, CLIENT_LEFT))
    return f"{_meant(route, arm)},engine={_quoted(ENGINE[arm])},code!~{_quoted('5..')},flags!~{bad}"


def _meant(route: str, arm: Arm) -> str:
    return f"route={_quoted(route)},intended=~{_quoted('|'.join(INTENDED[arm]))}"


def _among(flags: Iterable[str]) -> str:
    """An expression for a list of flags that holds any of these."""
    return _quoted(f"(.*,)?({'|'.join(sorted(flags))})(,.*)?")


def _sum(selectors: Iterable[str], window_s: float) -> str:
    """Over every series that one of the selectors finds; `or` takes a series that two of them find only once."""
    return f"sum({' or '.join(f'increase({REQUESTS}{{{one}}}[{_ms(window_s)}])' for one in selectors)})"


def _own(route: str, arm: Arm) -> str:
    """Labels of answers the arm's own engine gave: the only ones that say how fast it is."""
    return f"route={_quoted(route)},intended={_quoted(arm)},engine={_quoted(ENGINE[arm])}"


def _timed(route: str, arm: Arm, measure: Measure, bound_ms: int, window_s: float) -> tuple[str, str]:
    name = BUCKETS[measure]
    answered = _own(route, arm)
    bound = _quoted(rf"{bound_ms}(\.0)?")  # Prometheus 3 writes 500 as 500.0
    within = f"sum(increase({name}{{{answered},le=~{bound}}}[{_ms(window_s)}]))"
    return f"sum(increase({name}{{{answered},le={_quoted('+Inf')}}}[{_ms(window_s)}]))", within


def _shadow(more: str, window_s: float, target: str) -> str:
    cluster = f"envoy_cluster_name={_quoted(shadow_cluster(target))}"
    return f"sum(increase({SHADOW_REQUESTS}{{{cluster}{more}}}[{_ms(window_s)}]))"


def _cluster(arm: Arm, target: str) -> str:
    return f"{ENGINE[arm]}-{target}" if target else ENGINE[arm]


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _quoted(text: str) -> str:
    """A PromQL string; its escapes are those of JSON for everything a label holds."""
    return json.dumps(text, ensure_ascii=False)
