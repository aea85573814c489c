"""What the judge says: never a boolean, always with its reason and what happens next."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Decision(StrEnum):
    """The three verdicts. No data is `hold`."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll_back"


class Finding(BaseModel):
    """What one gate found."""

    model_config = ConfigDict(frozen=True)

    gate: str
    decision: Decision
    reason: str
    source: str = ""
    target: str = ""


class Verdict(BaseModel):
    """The judgement over all gates of a boundary."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    reason: str
    findings: tuple[Finding, ...]
    next_action: str
