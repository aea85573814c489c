"""What all parts of a plan have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A section of the plan: never changed after it was read, and a key it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")
