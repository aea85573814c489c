"""Writing to the journal in the terms of a migration: moves, decisions, outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from crossfade.errors import PermanentError
from crossfade.judge.evidence import Evidence
from crossfade.judge.verdict import Verdict
from crossfade.plan.gates import Gate
from crossfade.plan.model import Plan, RampPlan
from crossfade.ports import Clock, Entry, EntryKind, Journal, Metrics, Router, Watchman
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState

Body = TypeVar("Body", bound=BaseModel)


class Because(BaseModel):
    """Body of entries that say only why."""

    why: str


class Ruling(BaseModel):
    """A verdict with all it rests on, so that it can be judged again from the journal alone."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    gates: dict[str, Gate]
    ramp: RampPlan
    evidence: Evidence
    verdict: Verdict


class ShareMove(BaseModel):
    """A route change that was meant (`intent`) or seen in force (`outcome`)."""

    route: ModelRoute
    generation: int
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Desk:
    """What every step needs at hand: the plan as it was begun, and the ports."""

    plan: Plan
    journal: Journal
    router: Router
    metrics: Metrics
    watchman: Watchman
    clock: Clock

    def write(self, state: MigrationState, kind: EntryKind, subject: str, body: BaseModel) -> None:
        """Append one entry."""
        self.journal.record(self._entry(state, kind, subject, body))

    def enter(self, state: MigrationState, phase: Phase, because: str, body: BaseModel | None = None) -> MigrationState:
        """Move to `phase`; raises IllegalMove or StaleWriter. The entry carries `body`, or just the reason."""
        moved = state.with_phase(phase, now_s=self.clock.now_s(), because=because)
        return self.move(moved, "phase", str(phase), body or Because(why=because))

    def move(self, moved: MigrationState, kind: EntryKind, subject: str, body: BaseModel) -> MigrationState:
        """Store a state with the entry that explains it, in one transaction."""
        return self.journal.move(moved, self._entry(moved, kind, subject, body))

    def outcome(self, state: MigrationState, subject: str, shape: type[Body]) -> Body:
        """The newest outcome a stage of this attempt left behind; raises PermanentError when it left none."""
        for entry in reversed(self.journal.entries(state.name)):
            if (entry.kind, entry.subject, entry.attempt) == ("outcome", subject, state.attempt):
                return shape.model_validate_json(entry.body)
        raise PermanentError(f"{state.name}: the journal holds no outcome of {subject!r} in attempt {state.attempt}. Run that stage first.")

    def _entry(self, state: MigrationState, kind: EntryKind, subject: str, body: BaseModel) -> Entry:
        return Entry(state.name, state.attempt, self.clock.now_s(), kind, subject, body.model_dump_json())
