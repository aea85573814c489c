"""What Alertmanager (webhook, version 4) and Prometheus (`POST /api/v2/alerts`) send, parsed once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from crossfade.errors import UserError

MIGRATION_LABEL = "crossfade_migration"
GATE_LABEL = "crossfade_gate"
_GRAVE = ("page", "critical")
_LONGEST_REASON = 500
_ZERO_YEAR = 1
"""Go writes a time that was never set as year 1."""


class Alert(BaseModel):
    """One alert. Prometheus sends no status: there an alert is over once `endsAt` has passed."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    status: Literal["firing", "resolved"] | None = None
    ends_at: datetime | None = Field(None, alias="endsAt")

    @property
    def migration(self) -> str:
        """The migration it names; empty when it is none of ours."""
        return self.labels.get(MIGRATION_LABEL, "")

    @property
    def gate(self) -> str:
        """The gate it stands for, else its own name."""
        return self.labels.get(GATE_LABEL) or self.labels.get("alertname", "")

    @property
    def grave(self) -> bool:
        """Whether somebody would be woken: severity `page` or `critical`."""
        return self.labels.get("severity", "").lower() in _GRAVE

    @property
    def reason(self) -> str:
        """Its annotations in one line, for the latch."""
        said = [self.annotations.get(name, "") for name in ("summary", "description", "message")]
        text = ": ".join(" ".join(part.split()) for part in said if part.strip()) or "it says no more"
        return f"alert {self.gate or 'without a name'}: {text}"[:_LONGEST_REASON]

    def firing(self, now_s: float) -> bool:
        """Whether it stands at `now_s`."""
        if self.status:
            return self.status == "firing"
        if self.ends_at is None or self.ends_at.year <= _ZERO_YEAR:
            return True
        return self.ends_at.timestamp() > now_s


class _Webhook(BaseModel):
    version: Literal["4"]
    alerts: Annotated[list[Alert], Field(min_length=1)]


_EITHER: TypeAdapter[_Webhook | list[Alert]] = TypeAdapter(_Webhook | Annotated[list[Alert], Field(min_length=1)])


def parse_alerts(body: bytes) -> tuple[Alert, ...]:
    """The alerts in a request's body; raises UserError saying what is wrong with it."""
    try:
        found = _EITHER.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"this is no alert: {where + ': ' if where else ''}{first['msg']}. "
            "Send Alertmanager's webhook of version 4, or Prometheus' list of alerts."
        ) from None
    return tuple(found.alerts if isinstance(found, _Webhook) else found)
