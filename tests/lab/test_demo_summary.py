"""A demo says OK only when it showed everything it promises, and otherwise names what is missing."""

import math
from dataclasses import replace

import pytest

from crossfade.guard.outbox import Notice
from crossfade.judge.evidence import Counts
from crossfade.lab.client_report import ClientReport
from crossfade.lab.demo_summary import Answer, End, Load, breach_summary, whole_summary
from crossfade.lab.view import Snapshot
from crossfade.prefect_api import FlowRun

SEEN = Snapshot("finished", 10_000, "soaked", Counts(), Counts(), client_requests=300, client_failed=0, elapsed_s=200)
RUN = FlowRun("1234", "COMPLETED", "Completed", "done", {}, math.nan)
REPORT = ClientReport(finished=True, requests=300, answered=300)
GOOD = End(SEEN, RUN, Load(REPORT, lived=True), where="report.md")
BACK = replace(GOOD, now=replace(SEEN, stage="rolled_back", share_bp=0), run=replace(RUN, state="FAILED"))
NOTICE = Notice(route="r", migration="m", attempt=1, rehearsal=False, at_s=103.5, reason="5 of 9 failed", seconds=0.042)
ANSWER = Answer("5678", 2.5)


def load(*, lived: bool = True, **changes: object) -> Load:
    return Load(REPORT.model_copy(update=changes), lived=lived)


def test_everything_moved_and_answered_is_ok() -> None:
    ended = whole_summary(GOOD)
    assert ended.success
    assert ended.lines[-1].startswith("OK: ")


@pytest.mark.parametrize(
    ("end", "named"),
    [
        (replace(GOOD, load=load(answered=299)), "1 client requests were not answered"),
        (replace(GOOD, load=load(answered=298, abandoned=2)), "2 client requests were not answered"),
        (replace(GOOD, load=load(finished=False)), "no last report"),
        (replace(GOOD, load=load(requests=0, answered=0)), "sent nothing"),
        (replace(GOOD, load=load(lived=False)), "clients ended before"),
        (replace(GOOD, run=replace(RUN, state="CRASHED")), "run ended as crashed"),
        (replace(GOOD, now=replace(SEEN, share_bp=5_000)), "not finished on the target"),
        (replace(GOOD, now=replace(SEEN, stage="soaking")), "soaking"),
    ],
)
def test_whatever_is_missing_is_not_ok_and_named(end: End, named: str) -> None:
    ended = whole_summary(end)
    assert not ended.success
    assert ended.lines[-1].startswith("NOT OK: ")
    assert named in ended.lines[-1]


def test_a_breach_tells_the_guards_sight_and_the_way_back_apart() -> None:
    ended = breach_summary(BACK, broken_s=100.0, breaches=[NOTICE], answers=[ANSWER])
    assert ended.success
    text = "\n".join(ended.lines)
    assert "fault -> breach seen:           3.5 s" in text
    assert "breach seen -> source at 100 %: 0.042 s" in text
    assert "2.5 s, run 5678" in text


@pytest.mark.parametrize(
    ("end", "breaches", "answers", "named"),
    [
        (BACK, [], [ANSWER], "the judge was faster"),
        (BACK, [NOTICE], [], "no rollback run"),
        (GOOD, [NOTICE], [ANSWER], "finished with 100%"),
        (replace(BACK, load=load(lived=False)), [NOTICE], [ANSWER], "clients ended before"),
    ],
)
def test_a_rollback_that_went_another_way_is_not_ok(end: End, breaches: list[Notice], answers: list[Answer], named: str) -> None:
    ended = breach_summary(end, broken_s=100.0, breaches=breaches, answers=answers)
    assert not ended.success
    assert named in ended.lines[-1]


def test_a_trip_that_was_not_timed_is_not_given_a_time() -> None:
    lost = NOTICE.model_copy(update={"problem": "the guard died right after the trip", "seconds": 0.0})
    assert "not measured: the guard died" in "\n".join(breach_summary(BACK, broken_s=100.0, breaches=[lost], answers=[ANSWER]).lines)
