"""What the router tells Prometheus, and the listener it tells it on.

Per request, when it ends: `envoy_cf_requests{route,intended,engine,code,flags}` and, in milliseconds, the histograms
`envoy_cf_ttft{route,intended,engine}` and `envoy_cf_duration{...}`. Envoy's own counters per cluster are charged to the failover
cluster whoever answered, so nothing may be judged by them. Mirrored requests are in no access log: only their own cluster counts
them, `envoy_cluster_upstream_rq_xx{envoy_cluster_name="target_shadow"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from crossfade.envoy.names import BUCKETS_MS, METRICS_PATH, NAMESPACE, ROUTES
from crossfade.envoy.stack import TYPE, Address, Json, socket_address

_ADMIN = "admin"

_EXPOSED = (
    rf"^({NAMESPACE}\.|server\.(live|uptime)$|http\.{ROUTES}\.(rds\.{ROUTES}\.update_(attempt|success|rejected|failure)$|downstream_rq_active|downstream_cx_active)"
    r"|cluster\.[a-z0-9_\-]+\.(upstream_rq_(active|total|[1-5]xx|retry|retry_success)|membership_healthy|outlier_detection\.ejections_active)$"
    r"|cluster\.[a-z0-9_\-]+_shadow\.upstream_rq_time$)"
)
"""A scrape prints only these; all of Envoy's statistics would be thousands of lines each second."""


def access_log() -> Json:
    """The logger that counts requests. It writes nothing about their content."""
    route, intended, engine = (
        {"name": "route", "value_format": "%ROUTE_NAME%"},
        {"name": "intended", "value_format": f"%CLUSTER_METADATA({NAMESPACE}:intended)%"},
        {"name": "engine", "value_format": f"%UPSTREAM_METADATA({NAMESPACE}:engine)%"},
    )
    outcome = ({"name": "code", "value_format": "%RESPONSE_CODE%"}, {"name": "flags", "value_format": "%RESPONSE_FLAGS%"})
    tags = [route, intended, engine]
    # to the first byte of the BODY: vLLM sends its headers before the first token, Ollama with it
    first_byte = "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%"
    return {
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": f"{TYPE}.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": NAMESPACE},
            "counters": [{"stat": {"name": "requests", "tags": [*tags, *outcome]}, "value_fixed": 1}],
            "histograms": [_histogram("ttft", first_byte, tags), _histogram("duration", "%DURATION%", tags)],
        },
    }


def histogram_buckets() -> Json:
    """The bounds of both histograms, in milliseconds, and of the time mirrored requests took."""
    ours, mirrored = {"prefix": NAMESPACE}, {"suffix": "_shadow.upstream_rq_time"}
    return {"histogram_bucket_settings": [{"match": match, "buckets": list(BUCKETS_MS)} for match in (ours, mirrored)]}


def listener(address: Address) -> Json:
    """Answers `GET /stats/prometheus` and `GET /ready`, and 404 to anything else: the rest of Envoy's administration stays closed."""
    scrape = f"{METRICS_PATH}?filter={quote(_EXPOSED, safe='')}"
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "normalize_path": True,
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [
                {
                    "name": "metrics",
                    "domains": ["*"],
                    "routes": [
                        _exposed(METRICS_PATH, scrape),
                        _exposed("/ready", "/ready"),
                        {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
                    ],
                }
            ],
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}}
        ],
    }
    return {
        "name": "metrics",
        "address": socket_address(address),
        "ignore_global_conn_limit": True,  # a flood of clients must not blind the gates
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }


def admin_cluster(socket: Path) -> Json:
    """Envoy's own administration, so that the metrics listener can ask it."""
    endpoint = {"address": {"pipe": {"path": str(socket)}}}
    return {
        "name": _ADMIN,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": _ADMIN, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }


def _histogram(name: str, value: str, tags: Sequence[Mapping[str, str]]) -> Json:
    return {"stat": {"name": name, "tags": tags}, "value_format": value}


def _exposed(path: str, rewritten: str) -> Json:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    return {"match": {"path": path, "headers": [get]}, "route": {"cluster": _ADMIN, "timeout": "10s", "prefix_rewrite": rewritten}}
