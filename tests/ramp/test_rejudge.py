"""Every ruling in the journal, judged again from what stands beside it."""

import dataclasses

from ramp_desk import (
    MIGRATION,
    Given,
    HandClock,
    failing,
    good,
)

from crossfade.judge.verdict import Decision
from crossfade.ramp.logbook import Desk, Ruling
from crossfade.ramp.rejudge import rejudge
from crossfade.ramp.tick import tick


def test_every_decision_in_the_journal_can_be_judged_again(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.each = good()
    for _ in range(4):
        tick(desk, MIGRATION)
        clock.sleep(40)
    given.each = failing()
    tick(desk, MIGRATION)
    entries = desk.journal.entries(MIGRATION)
    assert sum(entry.kind == "decision" for entry in entries) == 5
    assert rejudge(entries) == []


def test_a_ruling_that_was_tampered_with_is_found(ready: tuple[Desk, Given, HandClock]) -> None:
    desk, given, clock = ready
    given.each = failing(errors=3)
    for _ in range(3):
        tick(desk, MIGRATION)
        clock.sleep(40)
    entries = list(desk.journal.entries(MIGRATION))
    at = max(number for number, entry in enumerate(entries) if entry.kind == "decision")
    ruling = Ruling.model_validate_json(entries[at].body)
    said = Decision.HOLD if ruling.verdict.decision is Decision.PROMOTE else Decision.PROMOTE
    other = ruling.verdict.model_copy(update={"decision": said})
    entries[at] = dataclasses.replace(entries[at], body=ruling.model_copy(update={"verdict": other}).model_dump_json())
    (difference,) = rejudge(entries)
    assert difference.entry == entries[at].id
