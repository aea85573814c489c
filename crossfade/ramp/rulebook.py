"""What the judge judges by, and what it remembers: kept in the journal, keyed to an attempt and a start of the target."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import BaseModel

from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Blind
from crossfade.judge.gate import Rules
from crossfade.judge.state import JudgeState, begin
from crossfade.ramp.logbook import Desk
from crossfade.rollout.state import MigrationState

MEMORY = "judge"
"""Key under which the journal remembers the judge's state of a migration."""

OPENING = "opening"
"""Key under which it remembers how that state began."""

_MOST_HALVINGS = 20
"""After so many nothing changes any more: the budget is a millionth of the first one."""

_SAME_START_S = 2.0
"""Two readings of one process's start differ by less: exporters round it."""


class Opening(BaseModel):
    """How a memory of the judge began; `target_start` is empty while nobody could say when the target was started."""

    key: str
    attempt: int
    target_start: str
    since_s: float
    halvings: int
    restarts: int = 0  # of the target in this attempt


@dataclass(frozen=True)
class Opened:
    """Rules, the judge's memory to go on from, and the migration's state with it.

    `restarted_at` is when the target was started anew, if that is not the start this memory is about: until `reopened`, every look says so.
    """

    rules: Rules
    digest: str
    memory: JudgeState
    opening: Opening
    state: MigrationState
    restarted_at: str = ""


def digest_of(part: BaseModel) -> str:
    """A digest that is the same wherever the same content is written down."""
    return hashlib.sha256(part.model_dump_json().encode()).hexdigest()[:24]


def rules_of(desk: Desk, state: MigrationState) -> tuple[Rules, str]:
    """Gates, limits and baseline of this attempt, and their digest; written into the journal the first time."""
    plan = desk.plan
    rules = Rules(gates=dict(plan.gates), ramp=plan.ramp, judge=plan.judge, baseline=_baseline(desk, state))
    digest = digest_of(rules)
    if not desk.journal.entries(state.name, kind="rules", subject=digest, attempt=state.attempt, newest=1):
        desk.write(state, "rules", digest, rules)
    return rules, digest


def _baseline(desk: Desk, state: MigrationState) -> Baseline:
    for entry in desk.journal.entries(state.name, kind="outcome", subject="observe", attempt=state.attempt, newest=1):
        return Baseline.model_validate_json(entry.body)
    return Baseline.none()


def opened(desk: Desk, state: MigrationState, *, counts: bool) -> Opened:
    """What the next ruling judges by: the memory of this attempt, a new one where it has none yet. Raises StaleWriter.

    For a target that was started anew it is still the old memory, so that the errors of the old process count; then call `reopened`.
    `counts` says whether traffic is judged: only then the target's start matters.
    """
    rules, digest = rules_of(desk, state)
    stored = desk.journal.recall(state.name, OPENING)
    last = Opening.model_validate_json(stored) if stored else None
    start = _target_start(desk) if counts else ""
    if last is None or last.attempt != state.attempt:
        begun = _after(last, state, start, since_s=state.share_since_s)
        return _begun(desk, state, begun, rules, digest)
    if not last.target_start and start:
        last = last.model_copy(update={"target_start": start})
        state = _remember(desk, state, last)
    memory = JudgeState.model_validate_json(desk.journal.recall(state.name, MEMORY))
    return Opened(rules, digest, memory, last, state, restarted_at=start if _differs(last.target_start, start) else "")


def reopened(desk: Desk, before: Opened, state: MigrationState) -> Opened:
    """Begin the memory of the target that was started anew. In the same transaction the state is told to go back to the first step,
    so that whoever is killed before it went there leaves that to the next one. Raises StaleWriter.
    """
    begun = _after(before.opening, state, before.restarted_at, since_s=max(state.share_since_s, desk.clock.now_s()))
    begun = begun.model_copy(update={"restarts": before.opening.restarts + 1})
    return _begun(desk, state.with_target_anew(), begun, before.rules, before.digest)


def _after(last: Opening | None, state: MigrationState, start: str, *, since_s: float) -> Opening:
    """Each new key begins from nothing and with half the error budget of the one before, so that trying again until it passes does not."""
    halvings = min(last.halvings + 1, _MOST_HALVINGS) if last is not None else 0
    key = f"{state.attempt}@{start or 'unknown'}"
    return Opening(key=key, attempt=state.attempt, target_start=start, since_s=since_s, halvings=halvings)


def _begun(desk: Desk, state: MigrationState, opening: Opening, rules: Rules, digest: str) -> Opened:
    memory = begin(opening.key, judge=rules.judge, since_s=opening.since_s, halvings=opening.halvings)
    return Opened(rules, digest, memory, opening, _remember(desk, state, opening, memory))


def _remember(desk: Desk, state: MigrationState, opening: Opening, memory: JudgeState | None = None) -> MigrationState:
    kept = {OPENING: opening.model_dump_json()}
    if memory is not None:
        kept[MEMORY] = memory.model_dump_json()
    return desk.move(state, "note", "judge", opening, kept)


def _target_start(desk: Desk) -> str:
    """Seconds since the epoch as text; empty while Prometheus cannot say, which is no sign of a restart."""
    found = desk.metrics.read("target_started", desk.plan.target_started)
    return "" if isinstance(found, Blind) else f"{found.value:.0f}"


def _differs(before: str, now: str) -> bool:
    return bool(before) and bool(now) and abs(float(before) - float(now)) > _SAME_START_S
