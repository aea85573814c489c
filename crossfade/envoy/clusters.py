"""The engines as Envoy's clusters: where they are, when they are skipped, and who is asked instead."""

from __future__ import annotations

from crossfade.envoy.names import BROKEN, NAMESPACE, SOURCE, TARGET, shadow_of, target_cluster, with_failover
from crossfade.envoy.stack import TYPE, Address, Json, Stack, socket_address

ENGINE_IDLE_S = 4
"""Idle connections to an engine are closed before the engine does it (uvicorn: 5 s), or a request may be sent into the closing."""

UNLIMITED = 20_000
"""Envoy's default limits (3 retries, 1024 requests) turn failover itself into errors under load."""


def clusters(stack: Stack) -> list[Json]:
    """The source, the rehearsal's broken engine, and each target: itself, with failover, and for mirrored requests."""
    found = [
        _engine(SOURCE, SOURCE, Address.parse(stack.source), health="/api/version", last_resort=True),
        _engine(BROKEN, BROKEN, Address("127.0.0.1", 1)),
        _failover(BROKEN, BROKEN),
    ]
    for name, text in stack.targets.items():
        cluster, address = target_cluster(name), Address.parse(text)
        found += [
            _engine(cluster, TARGET, address, health="/health"),
            _failover(cluster, TARGET),
            _engine(shadow_of(cluster), TARGET, address),
        ]
    return found


def _engine(name: str, engine: str, address: Address, *, health: str = "", last_resort: bool = False) -> Json:
    endpoint = {"address": socket_address(address), "hostname": str(address)}
    host = {"endpoint": endpoint, "metadata": {"filter_metadata": {NAMESPACE: {"engine": engine}}}}
    protocol = {
        "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": f"{ENGINE_IDLE_S}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    cluster: dict[str, object] = {
        "name": name,
        "type": "STATIC" if address.is_ip() else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",  # `localhost` is ::1 first, where Ollama and vLLM do not listen by default
        "connect_timeout": "2s",
        "metadata": {"filter_metadata": {NAMESPACE: {"intended": engine}}},
        "circuit_breakers": _no_limits(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [host]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
        # 0: an engine that fails its health check is skipped. 100 for the source: after it there is nobody left to ask, so a
        # missed health check of a busy source must not turn into a 503 of ours.
        "common_lb_config": {"healthy_panic_threshold": {"value": 100 if last_resort else 0}},
    }
    if health:
        cluster["health_checks"] = [_health_check(health)]
    if health and not last_resort:
        cluster["outlier_detection"] = _outlier_detection()
    return cluster


def _failover(first: str, intended: str) -> Json:
    members = {
        "@type": f"{TYPE}.extensions.clusters.composite.v3.ClusterConfig",
        "clusters": [{"name": first}, {"name": SOURCE}],
    }
    return {
        "name": with_failover(first),
        "connect_timeout": "2s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "envoy.clusters.composite", "typed_config": members},
        "metadata": {"filter_metadata": {NAMESPACE: {"intended": intended}}},
        "circuit_breakers": _no_limits(),
    }


def _health_check(path: str) -> Json:
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",  # Envoy's default is 60 s: a target that comes up later would be overlooked that long
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": path},
    }


def _outlier_detection() -> Json:
    return {
        "split_external_local_origin_errors": True,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_5xx": 0,  # a 500 is an answer; gates judge it
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "max_ejection_percent": 100,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_time": "30s",
    }


def _no_limits() -> Json:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, UNLIMITED)]}
