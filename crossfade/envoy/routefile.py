"""The route table as Envoy reads it, and back.

Everything needed to read a table back is in what Envoy itself acts on: the generation is in the version, the share is the
weight, and the model names lie beside the texts Envoy matches, which are checked against them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from crossfade.envoy.names import (
    BROKEN,
    DEFAULT_ROUTE,
    NAMESPACE,
    ROUTES,
    SESSION_HEADER,
    SOURCE,
    shadow_of,
    target_cluster,
    with_failover,
)
from crossfade.envoy.stack import TYPE, Json
from crossfade.rollout.routes import FULL_BP, ModelRoute, RouteTable, Upstream, canonical

ATTEMPT_IDLE_S = 600
"""An engine that is silent this long is given up. It bounds the longest answer that is not streamed, also the source's: a
shorter limit would cut what worked before the router was there, and start it again. A hanging engine is found sooner by its
health check."""

_TYPE_URL = f"{TYPE}.config.route.v3.RouteConfiguration"
_VERSION = re.compile(r"g(\d{1,18})-([0-9a-f]{12})")


class Unreadable(ValueError):
    """A text is not a whole route file of ours; the message says why."""


def render(table: RouteTable) -> str:
    """The route file. The same table gives the same text; its version names generation and content."""
    config = route_config(table)
    return json.dumps({"version_info": version(table), "resources": [{"@type": _TYPE_URL, **config}]})


def version(table: RouteTable) -> str:
    """`g<generation>-<hash of the routes>`, what Envoy reports as the version in force."""
    return f"g{table.generation}-{_digest({'@type': _TYPE_URL, **route_config(table)})}"


def route_config(table: RouteTable) -> Json:
    """The table as Envoy's RouteConfiguration."""
    return {
        "name": ROUTES,
        "validate_clusters": True,  # off by default: an unknown cluster would be accepted and answer 503
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                # Envoy ignores a new version of equal content: its dump would name the generation before for ever
                "metadata": {"filter_metadata": {NAMESPACE: {"generation": str(table.generation)}}},
                "retry_policy": _failover(),  # here once, not in each route: Envoy reads a shorter file sooner
                "routes": [_upload_route(), *(_model_route(route) for route in table.routes), _default_route()],
            }
        ],
    }


def parse(text: str) -> RouteTable:
    """The table in a route file; raises Unreadable for anything that `render` did not write whole."""
    try:
        document = json.loads(text)
        match = _VERSION.fullmatch(document["version_info"])
        [config] = document["resources"]
        if not match or _digest(config) != match[2]:
            raise Unreadable("version and content do not belong together: half written, or edited by hand")
        return _table(int(match[1]), config)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a route file of ours: {error}") from None


def parse_dump(text: str) -> RouteTable:
    """The table in Envoy's dump of its dynamic routes; raises Unreadable when it has none or not ours."""
    try:
        found = [entry for dump in json.loads(text).get("configs", []) for entry in _entries(dump)]
        for entry in found:
            match, config = _VERSION.fullmatch(str(entry.get("version_info", ""))), _map(entry["route_config"])
            if match and config["name"] == ROUTES:
                return _table(int(match[1]), config)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a route table of ours: {error}") from None
    raise Unreadable("the router has no route table of ours in force")


def spellings(models: Sequence[str]) -> list[str]:
    """What a client may write for these models, as Ollama understands it: with `:latest` or without. Case is left to Envoy.

    Whole strings rather than one expression: Envoy refuses expressions beyond a size that a few long aliases already reach.
    """
    names = dict.fromkeys(canonical(model) for model in models)
    return [text for name in names for text in (name, f"{name}:latest") if canonical(text) == name]


def _model_route(route: ModelRoute) -> Json:
    names = [{"string_match": {"exact": text, "ignore_case": True}} for text in spellings(route.models)]
    named = {"or_match": {"value_matchers": names}} if len(names) > 1 else names[0]
    model = {"filter": NAMESPACE, "path": [{"key": "model"}], "value": named}
    return {
        "name": route.name,
        "metadata": {"filter_metadata": {NAMESPACE: {"models": list(route.models), "target": route.target}}},
        "match": {"prefix": "/v1/", "dynamic_metadata": [model]},
        "route": {
            "timeout": "0s",  # default 15 s for the whole answer
            "auto_host_rewrite": True,  # Ollama on loopback refuses foreign Host headers
            "hash_policy": [{"header": {"header_name": SESSION_HEADER}}],
            "weighted_clusters": {
                "use_hash_policy": True,
                # this order and the constant sum keep a conversation on the target once it is there
                "clusters": [
                    {"name": _share_cluster(route.upstream, route.target), "weight": route.share_bp},
                    {"name": SOURCE, "weight": route.source_bp},
                ],
            },
            **_mirror(route),
        },
    }


def _failover() -> Json:
    """Of every route that has none of its own: one more try, which the composite cluster sends to the source."""
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request,reset,retriable-status-codes",
        "retriable_status_codes": [502, 503, 504],
        "num_retries": 1,
        "per_try_idle_timeout": f"{ATTEMPT_IDLE_S}s",
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.020s"},
    }


def _share_cluster(upstream: Upstream, target: str) -> str:
    return with_failover(BROKEN if upstream is Upstream.REHEARSAL_BREACH else target_cluster(target))


def _mirror(route: ModelRoute) -> Json:
    if not route.shadow_bp:
        return {}
    fraction = {"default_value": {"numerator": route.shadow_bp, "denominator": "TEN_THOUSAND"}}
    mirror = {
        "cluster": shadow_of(target_cluster(route.target)),
        "disable_shadow_host_suffix_append": True,  # the target would not know itself by it
        "runtime_fraction": fraction,
    }
    return {"request_mirror_policies": [mirror]}


def _default_route() -> Json:
    """Unknown models, bodies without one, everything that is not inference. Retried only when the source never saw the request."""
    safe_to_repeat = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 1}
    return {
        "name": DEFAULT_ROUTE,
        "match": {"prefix": "/"},
        "route": {"cluster": SOURCE, "timeout": "0s", "auto_host_rewrite": True, "retry_policy": safe_to_repeat},
    }


def _upload_route() -> Json:
    """Ollama's weight uploads pass unread: gigabytes must not be collected to look for a model name."""
    off = {"@type": f"{TYPE}.config.route.v3.FilterConfig", "disabled": True}
    return {
        **_default_route(),
        "match": {"prefix": "/api/blobs/"},
        "typed_per_filter_config": {"envoy.filters.http.json_to_metadata": off},
    }


def _table(generation: int, config: Mapping[str, object]) -> RouteTable:
    [host] = _maps(config["virtual_hosts"])
    routes = [_read(route) for route in _maps(host["routes"]) if "weighted_clusters" in _map(route["route"])]
    return RouteTable(generation=generation, routes=tuple(routes))


def _read(route: Json) -> ModelRoute:
    ours = _map(_map(_map(route["metadata"])["filter_metadata"])[NAMESPACE])
    [matcher] = _maps(_map(route["match"])["dynamic_metadata"])
    action = _map(route["route"])
    first, second = _maps(_map(action["weighted_clusters"])["clusters"])
    breach = first["name"] == with_failover(BROKEN)
    read = ModelRoute.model_validate(
        {
            "name": route["name"],
            "models": ours["models"],
            "share_bp": first.get("weight", 0),
            "shadow_bp": _read_mirror(action, str(ours["target"])),
            "upstream": Upstream.REHEARSAL_BREACH if breach else Upstream.TARGET,
            "target": ours["target"],
        }
    )
    named = _map(matcher["value"])
    either = _maps(_map(named["or_match"])["value_matchers"]) if "or_match" in named else [named]
    matched = [_map(one["string_match"]).get("exact", "") for one in either]
    if matched != spellings(read.models):
        raise Unreadable(f"route {read.name}: matches {matched!r}, not its models {read.models!r}")
    if second["name"] != SOURCE or second.get("weight", 0) != read.source_bp:
        raise Unreadable(f"route {read.name}: the shares of target and source do not sum to {FULL_BP}")
    if first["name"] != _share_cluster(read.upstream, read.target):
        raise Unreadable(f"route {read.name}: its share goes to {first['name']!r}, not to its target {read.target!r}")
    return read


def _read_mirror(action: Json, target: str) -> object:
    """The shadow share; raises Unreadable for a mirror elsewhere than to the route's own target."""
    if "request_mirror_policies" not in action:
        return 0
    [mirror] = _maps(action["request_mirror_policies"])
    fraction = _map(_map(mirror["runtime_fraction"])["default_value"])
    if mirror["cluster"] != shadow_of(target_cluster(target)) or fraction.get("denominator") != "TEN_THOUSAND":
        raise Unreadable(f"a mirror goes to {mirror['cluster']!r} by {fraction!r}, which we never write")
    return fraction.get("numerator", 0)


def _entries(dump: Json) -> list[Json]:
    """Entries of either form of dump: whole, or `?resource=dynamic_route_configs`."""
    return [dump] if "route_config" in dump else _maps(dump.get("dynamic_route_configs", []))


def _map(value: object) -> Json:
    if not isinstance(value, Mapping):
        raise Unreadable(f"expected an object, found {value!r}")
    return value


def _maps(value: object) -> list[Json]:
    if not isinstance(value, list):
        raise Unreadable(f"expected a list, found {value!r}")
    return [_map(item) for item in value]


def _digest(config: Json) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
