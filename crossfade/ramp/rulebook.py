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

_SAME_START_S = 2.0
"""Two readings of one process's start differ by less: exporters round it."""


class Opening(BaseModel):
    """How a memory of the judge began; `target_start` is empty while nobody could say when the target was started."""

    key: str
    attempt: int
    target_start: str
    since_s: float
    halvings: int


@dataclass(frozen=True)
class Opened:
    """Rules, and the judge's memory to go on from. `restarted`: the target was started anew since the last ruling of this attempt."""

    rules: Rules
    digest: str
    memory: JudgeState
    since_s: float
    halvings: int
    restarted: bool


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
    """What the next ruling judges by. The memory is a new one in a new attempt, or for a target that was started anew.

    Each new key begins from nothing and with half the error budget of the one before, so that trying again until it passes
    does not. `counts` says whether traffic is judged: only then the target's start matters.
    """
    rules, digest = rules_of(desk, state)
    stored = desk.journal.recall(state.name, OPENING)
    last = Opening.model_validate_json(stored) if stored else None
    start = _target_start(desk) if counts else ""
    same_attempt = last is not None and last.attempt == state.attempt
    if last is not None and same_attempt and not _differs(last.target_start, start):
        if not last.target_start and start:
            _remember(desk, state, last.model_copy(update={"target_start": start}))
        memory = JudgeState.model_validate_json(desk.journal.recall(state.name, MEMORY))
        return Opened(rules, digest, memory, last.since_s, last.halvings, restarted=False)
    begun = Opening(
        key=f"{state.attempt}@{start or 'unknown'}",
        attempt=state.attempt,
        target_start=start,
        since_s=max(state.share_since_s, desk.clock.now_s() if same_attempt else 0.0),
        halvings=last.halvings + 1 if last is not None else 0,
    )
    memory = begin(begun.key, judge=rules.judge, since_s=begun.since_s, halvings=begun.halvings)
    _remember(desk, state, begun, memory)
    return Opened(rules, digest, memory, begun.since_s, begun.halvings, restarted=same_attempt)


def _remember(desk: Desk, state: MigrationState, opening: Opening, memory: JudgeState | None = None) -> None:
    kept = {OPENING: opening.model_dump_json()}
    if memory is not None:
        kept[MEMORY] = memory.model_dump_json()
    desk.remember(state, "judge", opening, kept)


def _target_start(desk: Desk) -> str:
    """Seconds since the epoch as text; empty while Prometheus cannot say, which is no sign of a restart."""
    found = desk.metrics.read("target_started", desk.plan.prometheus.target_started)
    return "" if isinstance(found, Blind) else f"{found.value:.0f}"


def _differs(before: str, now: str) -> bool:
    return bool(before) and bool(now) and abs(float(before) - float(now)) > _SAME_START_S
