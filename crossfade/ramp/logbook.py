"""Writing to the journal in the terms of a migration: moves, decisions, outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from crossfade.errors import PermanentError
from crossfade.judge.evidence import Evidence
from crossfade.judge.verdict import Verdict
from crossfade.plan.model import Plan
from crossfade.ports import Clock, Entry, EntryKind, Journal, Metrics, Router, Standby, Watchman
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState

Body = TypeVar("Body", bound=BaseModel)


class Because(BaseModel):
    """Body of entries that say only why."""

    why: str


class Ruling(BaseModel):
    """A verdict with what it rests on. `rules` is the digest of an entry of kind `rules` of the same attempt.

    The judge's memory is a fold over all evidence of its key, so it is not stored with each ruling: `before` and `after` are its
    digests, and whoever judges again folds the same evidence in the same order. A key begins at `since_s` with `halvings`.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    rules: str
    key: str
    since_s: float
    halvings: int
    evidence: Evidence
    verdict: Verdict
    before: str
    after: str


class ShareMove(BaseModel):
    """A route change that was meant (`intent`) or seen in force (`outcome`)."""

    route: ModelRoute
    generation: int
    seconds: float = 0.0
    why: str = ""
    step: int = -1


@dataclass(frozen=True)
class Ledger:
    """What a move needs at hand, and all that a rollback needs: not even a plan that can be read."""

    journal: Journal
    router: Router
    clock: Clock

    def write(self, state: MigrationState, kind: EntryKind, subject: str, body: BaseModel) -> None:
        """Append one entry."""
        self.journal.record(self._entry(state, kind, subject, body))

    def enter(self, state: MigrationState, phase: Phase, because: str, body: BaseModel | None = None) -> MigrationState:
        """Move to `phase`; raises IllegalMove or StaleWriter. The entry carries `body`, or just the reason."""
        moved = state.with_phase(phase, now_s=self.clock.now_s(), because=because)
        return self.move(moved, "phase", str(phase), body or Because(why=because))

    def move(
        self, moved: MigrationState, kind: EntryKind, subject: str, body: BaseModel, memory: Mapping[str, str] | None = None
    ) -> MigrationState:
        """Store a state with the entry that explains it, and what is to be remembered, in one transaction; raises StaleWriter."""
        return self.journal.move(moved, self._entry(moved, kind, subject, body), memory)

    def outcome(self, state: MigrationState, subject: str, shape: type[Body]) -> Body:
        """The newest outcome a stage of this attempt left behind; raises PermanentError when it left none."""
        for entry in self.journal.entries(state.name, kind="outcome", subject=subject, attempt=state.attempt, newest=1):
            return shape.model_validate_json(entry.body)
        raise PermanentError(f"{state.name}: the journal holds no outcome of {subject!r} in attempt {state.attempt}. Run that stage first.")

    def newest_move(self, state: MigrationState) -> tuple[EntryKind, ShareMove] | None:
        """The last route change that was meant or done in this attempt, and which of the two."""
        found = [
            entry
            for kind in ("intent", "outcome")
            for entry in self.journal.entries(state.name, kind=kind, attempt=state.attempt, newest=4)
            if entry.subject in ("share", "reconcile")
        ]
        last = max(found, key=lambda entry: entry.id, default=None)
        return (last.kind, ShareMove.model_validate_json(last.body)) if last else None

    def _entry(self, state: MigrationState, kind: EntryKind, subject: str, body: BaseModel) -> Entry:
        return Entry(state.name, state.attempt, self.clock.now_s(), kind, subject, body.model_dump_json())


@dataclass(frozen=True)
class Desk(Ledger):
    """What every step needs at hand: the plan as it was begun, and the ports."""

    plan: Plan
    metrics: Metrics
    watchman: Watchman
    standby: Standby
