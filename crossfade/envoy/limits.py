"""What the router itself refuses, and how it says so: in JSON that clients of Ollama and of OpenAI can read."""

from __future__ import annotations

from crossfade.envoy.stack import MIB, TYPE, Json, Stack

_DESTRUCTIVE = r"(?i)/+api/+(pull|push|create|copy|delete|blobs)(/.*)?"
"""Ollama's routes that change which models there are, or fill its disk. Written loosely: what no engine would serve may be refused."""

_CLOSED = (
    "this route is closed: models cannot be pulled, pushed, created, copied or deleted through the router while they are being migrated. "
    "Ask whoever runs it, or talk to the engine itself"
)


def refusals(stack: Stack) -> list[Json]:
    """HTTP filters that answer in the engines' place; first in the chain, so that nothing is read before."""
    if not stack.close_destructive:
        return []
    path = {"path": {"safe_regex": {"regex": _DESTRUCTIVE}}}
    closed = {"permissions": [{"url_path": path}], "principals": [{"any": True}]}
    rules = {"@type": f"{TYPE}.extensions.filters.http.rbac.v3.RBAC", "rules": {"action": "DENY", "policies": {"closed": closed}}}
    return [{"name": "envoy.filters.http.rbac", "typed_config": rules}]


def local_replies(stack: Stack) -> Json:
    """Bodies of the router's own answers. Answers of an engine with the same code are not touched."""
    too_large = (
        f"the request is larger than the router's limit of {stack.body_limit_bytes / MIB:g} MiB. "
        "Send fewer or smaller images, or raise body_limit_bytes of the router"
    )
    return {
        "mappers": [
            _mapper(413, {"error": {"message": too_large, "type": "invalid_request_error", "code": "request_too_large"}}, path="/v1/"),
            _mapper(413, {"error": too_large}),
            _mapper(403, {"error": _CLOSED}),
        ]
    }


def _mapper(code: int, body: Json, *, path: str = "") -> Json:
    """Replies with `code` get `body`, those to a `path` prefix only, if there is one."""
    status = {"comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": f"crossfade.reply_{code}"}}}
    by_code = {"status_code_filter": status}
    under = {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": path}}}}
    return {
        "filter": {"and_filter": {"filters": [by_code, under]}} if path else by_code,
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }
