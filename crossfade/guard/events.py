"""What the guard tells Prefect: breaches, rollbacks, and that it cannot see."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import NAMESPACE_OID, UUID, uuid5

from crossfade.guard.heartbeat import BlindSince
from crossfade.guard.outbox import Notice
from crossfade.guard.prefect_http import PrefectHttp

BREACHED = "crossfade.sla.breached"
REHEARSAL_BREACHED = "crossfade.rehearsal.breached"
"""Another name than a real breach has, so that the rollback automation sleeps through rehearsals."""
ROLLED_BACK = "crossfade.rolled-back"
REHEARSAL_ROLLED_BACK = "crossfade.rehearsal.rolled-back"
"""So does its rollback: no user was moved."""
BLIND = "crossfade.guard.blind"


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
        "seen_by": notice.seen_by,
        **notice.numbers,
    }
    names = (REHEARSAL_BREACHED, REHEARSAL_ROLLED_BACK) if notice.rehearsal else (BREACHED, ROLLED_BACK)
    return tuple(
        Event(
            id=uuid5(NAMESPACE_OID, f"{notice.key} {name}"),
            name=name,
            resource_id=f"crossfade.migration.{notice.route}",
            occurred_s=notice.at_s,
            payload=json.dumps(payload),
        )
        for name in names
    )


def blind_event(route: str, blind: BlindSince) -> Event:
    """That nobody would see this route's target fail; one event for each time it begins."""
    payload = {"route": route, "why": blind.why, "since_s": blind.since_s}
    return Event(
        id=uuid5(NAMESPACE_OID, f"{route} {blind.since_s} {BLIND}"),
        name=BLIND,
        resource_id=f"crossfade.guard.{route.strip('()').replace(' ', '-')}",
        occurred_s=blind.since_s,
        payload=json.dumps(payload),
    )


class PrefectEvents:
    """Events to a Prefect server, over HTTP: what did not raise has arrived."""

    def __init__(self, prefect: PrefectHttp) -> None:
        self._prefect = prefect

    def emit(self, events: tuple[Event, ...]) -> None:
        """Post all of them at once."""
        resources = [{"prefect.resource.id": event.resource_id, "prefect.resource.name": event.resource_id} for event in events]
        self._prefect.post(
            "/events",
            [
                {
                    "id": str(event.id),
                    "event": event.name,
                    "resource": resource,
                    "occurred": datetime.fromtimestamp(event.occurred_s, UTC).isoformat(),
                    "payload": json.loads(event.payload),
                }
                for event, resource in zip(events, resources, strict=True)
            ],
        )
