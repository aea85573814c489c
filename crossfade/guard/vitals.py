"""How the guard itself is: what `/healthz` and `/metrics` answer. Written by the poll, read by everybody else, waited for by nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from crossfade.guard.heartbeat import ALIVE_WITHIN_S, Heartbeat

Cause = Literal["poll", "webhook"]
"""Who saw a breach: our own look at Prometheus, or an alert that was posted to us."""


@dataclass(frozen=True)
class Health:
    """Whether the guard guards. `reasons` are why not; `notes` are troubles that do not keep it from its work."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def well(self) -> bool:
        """No reason speaks against it."""
        return not self.reasons


class Vitals:
    """Counts since the start, and the newest heartbeat."""

    def __init__(self, *, journal_queue: Callable[[], int], event_queue: Callable[[], int]) -> None:
        self.last: Heartbeat | None = None
        self.listens = ""
        self._queues = {"the journal": journal_queue, "Prefect": event_queue}
        self._registry = registry = CollectorRegistry()
        self.breaches = Counter("crossfade_guard_breaches", "Hard breaches seen, by who saw them.", ["seen_by"], registry=registry)
        self.trips = Counter("crossfade_guard_trips", "Routes this guard put back on the source.", ["seen_by"], registry=registry)
        self.failed_trips = Counter("crossfade_guard_failed_trips", "Trips that left no latch.", ["seen_by"], registry=registry)
        self.webhooks = Counter("crossfade_guard_webhooks", "Alert webhooks by HTTP status.", ["status"], registry=registry)
        self.reaped = Counter("crossfade_guard_reaped_runs", "Ramp runs that hung and were set crashed.", registry=registry)
        self.polls = Counter("crossfade_guard_polls", "Looks at all routes.", registry=registry)
        self._last_poll = Gauge("crossfade_guard_last_poll_timestamp_seconds", "When the last poll ended.", registry=registry)
        self._watched = Gauge("crossfade_guard_watched_routes", "Routes with traffic on a target.", registry=registry)
        self._blind = Gauge("crossfade_guard_blind_routes", "Routes whose evidence cannot be had.", registry=registry)
        for name, told, queue in (("journal", "the journal", journal_queue), ("event", "Prefect", event_queue)):
            gauge = Gauge(f"crossfade_guard_{name}_queue", f"Breaches {told} has not been told of yet.", registry=registry)
            gauge.set_function(queue)

    def beat(self, heartbeat: Heartbeat) -> None:
        """A poll has ended."""
        self.last = heartbeat
        self.polls.inc()
        self._last_poll.set(heartbeat.at_s)
        self._watched.set(len(heartbeat.routes))
        self._blind.set(len(heartbeat.blind))

    def health(self, now_s: float) -> Health:
        """Well while the last poll is fresh and saw every route."""
        last, reasons = self.last, []
        if last is None:
            reasons.append("no poll has ended yet")
        else:
            age_s = now_s - last.at_s
            if age_s > ALIVE_WITHIN_S:
                reasons.append(f"the last poll ended {age_s:.0f} s ago")
            reasons += [f"{route} cannot be seen for {now_s - blind.since_s:.0f} s: {blind.why}" for route, blind in last.blind.items()]
        waiting = {name: queue() for name, queue in self._queues.items()}
        return Health(tuple(reasons), tuple(f"{count} breaches wait for {name}" for name, count in waiting.items() if count))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
