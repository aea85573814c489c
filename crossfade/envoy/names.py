"""Names that the bootstrap, the route file and whoever reads the router's metrics must agree on.

Requests are labelled twice: `intended` says whose share a request belonged to, `engine` says who answered. They differ when
the router hid a failure by asking the source instead.
"""

from __future__ import annotations

from typing import Final

SOURCE: Final = "source"
TARGET: Final = "target"
BROKEN: Final = "broken"
"""Clusters of one engine each. `broken` is a port nobody listens on, for the rehearsal's injected breach."""


def target_cluster(target: str) -> str:
    """The cluster of one target: of the stack's own for the empty name, else of the further one called `target`.

    A target's name may hold letters, digits, and hyphens, never an underscore: those begin the suffixes below.
    """
    return f"{TARGET}-{target}" if target else TARGET


def with_failover(cluster: str) -> str:
    """The cluster that asks `cluster` and, before the first byte, the source; a target's share goes to one of these."""
    return f"{cluster}_or_source"


def shadow_of(cluster: str) -> str:
    """The same engine under another name, so that mirrored requests never enter its own numbers."""
    return f"{cluster}_shadow"


ROUTES: Final = "llm"
"""Name of the one route configuration, and prefix of the listener's own statistics."""

DEFAULT_ROUTE: Final = "default"
"""Label of requests that belong to no migrated model; all of them go to the source."""

NAMESPACE: Final = "cf"
"""Key of our metadata inside Envoy, and prefix of our metrics (`envoy_cf_...`)."""

SESSION_HEADER: Final = "x-session-id"
"""Requests with the same value stay on the same engine while the share does not fall."""

METRICS_PATH: Final = "/stats/prometheus"

_DECADE: Final = (10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 25, 27, 30, 33, 36, 40, 44, 48, 50, 55, 60, 65, 70, 75, 80, 90)

BUCKETS_MS: Final[tuple[int, ...]] = (
    *range(1, 10),
    *(digits * scale for scale in (1, 10, 100, 1_000) for digits in _DECADE),
    *(digits * 10_000 for digits in _DECADE if digits <= 30),
)
"""Upper bounds of the latency histograms, 1 ms to 300 s, about a factor of 1.1 apart.

All have two significant digits: Envoy's histograms are exact at such bounds and interpolate at any other.
"""
