"""Every stored decision judged again from the journal alone: the same rules, the same evidence, in the same order.

Rulings are a chain: the judge's memory after one is the memory before the next, and each key begins from nothing. Breaches of the
guard stand alone, each with its own counts and limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from crossfade.judge.breach import Breach, hard_breach
from crossfade.judge.evidence import Interval
from crossfade.judge.gate import Rules, judge
from crossfade.judge.state import JudgeState, begin
from crossfade.plan.model import GuardPlan
from crossfade.ports import Entry
from crossfade.ramp.logbook import Ruling
from crossfade.ramp.rulebook import digest_of


@dataclass(frozen=True)
class Difference:
    """A decision that does not follow from what is stored with it. `entry` is its id in the journal."""

    entry: int
    what: str


class StoredBreach(BaseModel):
    """What a breach was judged on; a breach that was recovered after a crash, or came by an alert, has no counts of its own."""

    reason: str
    guard: GuardPlan | None = None
    intervals: tuple[Interval, ...] = ()


@dataclass
class _Chain:
    """Where the memory of one migration's judge stands while its rulings are read."""

    rules: dict[str, Rules] = field(default_factory=dict)
    memory: JudgeState | None = None


def rejudge(entries: Sequence[Entry]) -> list[Difference]:
    """Differences found in the entries of one migration, oldest first; empty when every decision follows from what is stored."""
    chain, found = _Chain(), list[Difference]()
    for entry in entries:
        try:
            found += _look_at(chain, entry)
        except ValidationError as error:
            found.append(Difference(entry.id, f"cannot be read as what it says it is: {error.errors()[0]['msg']}"))
    return found


def _look_at(chain: _Chain, entry: Entry) -> list[Difference]:
    if entry.kind == "rules":
        rules = Rules.model_validate_json(entry.body)
        chain.rules[entry.subject] = rules
        return [] if digest_of(rules) == entry.subject else [Difference(entry.id, "the rules are not those of their digest")]
    if entry.kind == "decision":
        return _ruling(chain, entry)
    if entry.kind == "breach":
        return _breach(entry)
    return []


def _ruling(chain: _Chain, entry: Entry) -> list[Difference]:
    ruling = Ruling.model_validate_json(entry.body)
    rules = chain.rules.get(ruling.rules)
    if rules is None:
        return [Difference(entry.id, f"the rules {ruling.rules} it was judged by are not in the journal")]
    memory = chain.memory
    if memory is None or memory.key != ruling.key:
        memory = begin(ruling.key, judge=rules.judge, since_s=ruling.since_s, halvings=ruling.halvings)
    found = [] if digest_of(memory) == ruling.before else [Difference(entry.id, "a ruling before it is missing or was changed")]
    judged = judge(rules, memory, ruling.evidence)
    chain.memory = judged.state
    if judged.verdict != ruling.verdict:
        found.append(
            Difference(
                entry.id,
                f"it says {ruling.verdict.decision} ({ruling.verdict.reason}), "
                f"the evidence says {judged.verdict.decision} ({judged.verdict.reason})",
            )
        )
    elif digest_of(judged.state) != ruling.after:
        found.append(Difference(entry.id, "the verdict is the same, but not what the judge remembers after it"))
    return found


def _breach(entry: Entry) -> list[Difference]:
    stored = StoredBreach.model_validate_json(entry.body)
    if stored.guard is None or not stored.intervals:
        return []
    again = hard_breach(stored.guard, stored.intervals)
    if isinstance(again, Breach) and again.reason == stored.reason:
        return []
    return [Difference(entry.id, f"it says {stored.reason!r}, the counts say {again.reason!r}")]
