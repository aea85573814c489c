"""One migration has one name in four places; this is where they are derived from each other.

| place | name |
|---|---|
| journal, command line | `support-chat/llama3.1-8b` |
| route, metric label, event resource | `support-chat.llama3.1-8b` |
| hidden route of the rehearsal | `support-chat.llama3.1-8b.rehearsal` |
| hidden model name clients could send | `crossfade-rehearsal-support-chat.llama3.1-8b` |
| deployment that ticks it | `ramp/support-chat.llama3.1-8b` |
"""

from __future__ import annotations

_REHEARSAL = ".rehearsal"


def route_name(migration: str) -> str:
    """The route of a migration; plan names hold no dot, so the way back is unique."""
    return migration.replace("/", ".", 1)


def rehearsal_route_name(migration: str) -> str:
    """The hidden route on which the rollback is rehearsed."""
    return route_name(migration) + _REHEARSAL


def rehearsal_model(migration: str) -> str:
    """The model name only the rehearsal sends."""
    return f"crossfade-rehearsal-{route_name(migration)}"


def is_rehearsal(route: str) -> bool:
    """Whether a route belongs to a rehearsal, so that its breach is no incident."""
    return route.endswith(_REHEARSAL)


def migration_of(route: str) -> str:
    """The migration a route (or its rehearsal) belongs to."""
    return route.removesuffix(_REHEARSAL).replace(".", "/", 1)


def ramp_deployment(migration: str) -> str:
    """The Prefect deployment whose schedule ticks a migration; deployment names may not hold a slash."""
    return f"ramp/{route_name(migration)}"
