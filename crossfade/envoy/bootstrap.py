"""What Envoy is started with: listeners, filters, engines. Changed only by a hot handover; what changes daily is in the route file."""

from __future__ import annotations

import json

from crossfade.envoy import limits, metrics
from crossfade.envoy.boot import Boot
from crossfade.envoy.clusters import clusters
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.names import NAMESPACE, ROUTES
from crossfade.envoy.stack import TYPE, Address, Json, Stack, socket_address

STREAM_IDLE_S = 1_500
"""A request is given up after this silence: longer than two attempts may take (`routefile.ATTEMPT_IDLE_S`)."""


def render(stack: Stack, boot: Boot) -> str:
    """The bootstrap as JSON text. The same stack and boot give the same text."""
    admin_socket = boot.admin_socket(stack.folder.absolute())
    return json.dumps(
        {
            "node": boot.node(),
            "stats_flush_interval": "1s",  # histograms reach Prometheus only at a flush
            "stats_config": metrics.histogram_buckets(),
            "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
            "overload_manager": _connection_limit(),
            "static_resources": {
                "listeners": [_traffic(stack), metrics.listener(Address.parse(boot.metrics_listen))],
                "clusters": [*clusters(stack), metrics.admin_cluster(admin_socket)],
            },
        },
        indent=1,
    )


def with_routes_inlined(bootstrap: str, route_config: Json) -> str:
    """The bootstrap with a route table in the place of the route file, for `envoy --mode validate`."""
    document = json.loads(bootstrap)
    chain = document["static_resources"]["listeners"][0]["filter_chains"][0]
    manager = chain["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = route_config
    return json.dumps(document)


def _connection_limit() -> Json:
    limit = {
        "@type": f"{TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": 10_000,
    }
    return {"resource_monitors": [{"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": limit}]}


def _traffic(stack: Stack) -> Json:
    return {
        "name": "traffic",
        "traffic_direction": "INBOUND",  # a handover drains only inbound listeners: the metrics must be read to the end
        "address": socket_address(Address.parse(stack.listen)),
        "per_connection_buffer_limit_bytes": stack.body_limit_bytes,
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": _http(stack)}]}],
    }


def _http(stack: Stack) -> Json:
    route_file = {"path": str(RouteFolder(stack.folder.absolute()).route_file)}
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": ROUTES,
        "use_remote_address": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_headers_timeout": "10s",
        "drain_timeout": "0.5s",  # by default a client that reads up to the end of a connection waits 6 s for it in a handover
        "stream_idle_timeout": f"{STREAM_IDLE_S}s",
        "server_header_transformation": "PASS_THROUGH",
        "rds": {"route_config_name": ROUTES, "config_source": {"resource_api_version": "V3", "path_config_source": route_file}},
        "access_log": [metrics.access_log()],
        "local_reply_config": limits.local_replies(stack),
        "http_filters": [
            *limits.refusals(stack),
            {"name": "envoy.filters.http.json_to_metadata", "typed_config": _model_reader()},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
    }


def _model_reader() -> Json:
    """Reads `model` out of the body. A body without one, or one that is no JSON, leaves nothing to match: the source gets it."""
    rule = {"selectors": [{"key": "model"}], "on_present": {"metadata_namespace": NAMESPACE, "key": "model", "type": "STRING"}}
    return {
        "@type": f"{TYPE}.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
        "request_rules": {
            "allow_empty_content_type": True,
            "allow_content_types_regex": {"regex": "(?i).*"},  # curl -d sends a form's type, and the engines accept it
            "rules": [rule],
        },
    }
