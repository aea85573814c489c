"""The breach as Prefect events. `prefect` is imported when the first one is due: that takes seconds, and nothing waits for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import NAMESPACE_OID, UUID, uuid5

import httpx

from crossfade.errors import Unreachable
from crossfade.guard.outbox import Notice

BREACHED = "crossfade.sla.breached"
REHEARSAL_BREACHED = "crossfade.rehearsal.breached"
"""Another name than a real breach has, so that the rollback automation sleeps through rehearsals."""
ROLLED_BACK = "crossfade.rolled-back"

_HEALTH_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Event:
    """One event; the same `id` sent twice is one event. `payload` is JSON text."""

    id: UUID
    name: str
    resource_id: str
    occurred_s: float
    payload: str


class Events(Protocol):
    """Somebody who passes events on."""

    def emit(self, events: tuple[Event, ...]) -> None:
        """Pass all of them on; raises Unreachable when that is not possible now."""


def events_of(notice: Notice) -> tuple[Event, ...]:
    """What a breach is announced as: the breach, then the rollback."""
    payload = {
        "migration": notice.migration,
        "route": notice.route,
        "reason": notice.reason,
        "rehearsal": notice.rehearsal,
        "attempt": notice.attempt,
        "at_s": notice.at_s,
        "trip_seconds": notice.seconds,
        "problem": notice.problem,
        **notice.numbers,
    }
    breached = REHEARSAL_BREACHED if notice.rehearsal else BREACHED
    return tuple(
        Event(
            id=uuid5(NAMESPACE_OID, f"{notice.key} {name}"),
            name=name,
            resource_id=f"crossfade.migration.{notice.route}",
            occurred_s=notice.at_s,
            payload=json.dumps(payload),
        )
        for name in (breached, ROLLED_BACK)
    )


class PrefectEvents:
    """Events to the Prefect server of this process's settings (`PREFECT_API_URL`)."""

    def emit(self, events: tuple[Event, ...]) -> None:
        """Hand them to Prefect's own sender, once the server has been seen alive; that sender drops what it cannot send."""
        from prefect.settings import PREFECT_API_URL

        url = PREFECT_API_URL.value()
        if not url:
            raise Unreachable("PREFECT_API_URL is not set, so nobody can be told of a breach; set it and restart the guard")
        try:
            httpx.get(f"{url}/health", timeout=_HEALTH_TIMEOUT_S).raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(f"the Prefect server at {url} does not answer ({type(error).__name__})") from None
        from prefect.events import emit_event

        for event in events:
            emit_event(
                event=event.name,
                resource={"prefect.resource.id": event.resource_id, "prefect.resource.name": event.resource_id},
                occurred=datetime.fromtimestamp(event.occurred_s, UTC),
                payload=json.loads(event.payload),
                id=event.id,
            )
