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
    """What one gate found; a row of the table a person reads.

    `interval` is a confidence sequence of the target's value: it holds with 95 % at all looks together. `low` and `high` are the same
    as numbers, shares or milliseconds. `evidence_against` is the e-value against the target, for which a whole ramp has a budget of
    1/alpha; `evidence_for` is the smallest e-value in its favour, which must reach 1/beta. All four are None where nothing is counted.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    gate: str
    decision: Decision
    reason: str
    source: str = ""
    target: str = ""
    interval: str = ""
    low: float | None = None
    high: float | None = None
    evidence_for: float | None = None
    evidence_against: float | None = None


class Verdict(BaseModel):
    """The judgement over all gates of a boundary."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    reason: str
    findings: tuple[Finding, ...]
    next_action: str


def worst(decisions: list[Decision]) -> Decision:
    """The decision that wins: any roll-back, else any hold, else promote."""
    for decision in (Decision.ROLL_BACK, Decision.HOLD):
        if decision in decisions:
            return decision
    return Decision.PROMOTE
