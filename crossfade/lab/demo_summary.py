"""What a demo prints at its end, and whether it showed what it promises. Every reason for a NOT OK is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.guard.outbox import Notice
from crossfade.lab.client_report import ClientReport
from crossfade.lab.view import Snapshot
from crossfade.plan.units import format_share
from crossfade.prefect_api import FlowRun


@dataclass(frozen=True)
class Load:
    """What the clients saw; `lived` says whether they were still sending when the demo stopped them."""

    report: ClientReport
    lived: bool


@dataclass(frozen=True)
class End:
    """A migration after its run ended. `where` is the file its report was written to."""

    now: Snapshot
    run: FlowRun
    load: Load
    where: str


@dataclass(frozen=True)
class Answer:
    """A rollback run that the breach event started, and the seconds from the event to its verified end."""

    run_id: str
    seconds: float


@dataclass(frozen=True)
class Ended:
    """How a demo ended: what to print, and whether it showed what it promises."""

    lines: tuple[str, ...]
    success: bool


def whole_summary(end: End) -> Ended:
    """Success is a finished migration, a completed run, and an answer to every request the clients sent until the end."""
    now, report = end.now, end.load.report
    unanswered = report.requests - report.answered
    missing = [
        *_unless(now.stage == "finished" and now.share_bp == 10_000, f"the migration is {now.stage}, not finished on the target"),
        *_unless(end.run.state == "COMPLETED", f"the migrate run ended as {end.run.state.lower()}"),
        *_unless(end.load.lived, "the clients ended before the migration did"),
        *_unless(report.finished, "the clients left no last report"),
        *_unless(report.requests > 0, "the clients sent nothing"),
        *_unless(unanswered == 0, f"{unanswered} client requests were not answered"),
    ]
    return _ended(end, [], missing, "everything moved and every client request was answered")


def breach_summary(end: End, *, broken_s: float, breaches: Sequence[Notice], answers: Sequence[Answer]) -> Ended:
    """Success is a breach the guard saw and tripped, and a rollback run started by its event that verified it.

    `broken_s` is when the target was broken, in seconds since the epoch; `breaches` are those since then, oldest first.
    """
    now = end.now
    times = [line for notice in breaches[:1] for line in _breach_lines(notice, broken_s)]
    times += [f"event -> rollback run verified: {answer.seconds:.1f} s, run {answer.run_id}, started by that event" for answer in answers]
    missing = [
        *_unless(now.stage == "rolled_back" and now.share_bp == 0, f"the migration is {now.stage} with {format_share(now.share_bp)}"),
        *_unless(bool(breaches), "the guard journaled no breach; if the migration was rolled back, the judge was faster and sent no event"),
        *_unless(bool(answers), "no rollback run that the breach event started has completed"),
        *_unless(end.load.lived, "the clients ended before the migration did"),
    ]
    return _ended(end, times, missing, "the guard brought everybody back")


def _breach_lines(notice: Notice, broken_s: float) -> list[str]:
    seen = f"fault -> breach seen:           {notice.at_s - broken_s:.1f} s, by the guard: {notice.reason}"
    if notice.problem:
        return [seen, f"breach seen -> source at 100 %: not measured: {notice.problem}"]
    return [seen, f"breach seen -> source at 100 %: {notice.seconds:.3f} s, in force in the router"]


def _ended(end: End, times: list[str], missing: list[str], good: str) -> Ended:
    now, report = end.now, end.load.report
    lost = f", {report.abandoned} abandoned" if report.abandoned else ""
    lines = (
        "",
        f"migration: {now.stage}, {format_share(now.share_bp)} on the target ({now.because})",
        f"prefect:   {end.run.state.lower()}: {end.run.message}",
        *times,
        f"clients:   {report.requests} requests, {report.answered} answered, {report.failed} failed{lost}",
        *(f"           failed: {failure}" for failure in report.failures),
        f"report:    {end.where}",
        f"NOT OK: {'; '.join(missing)}. The logs are in .lab/home/logs." if missing else f"OK: {good}.",
    )
    return Ended(lines, success=not missing)


def _unless(good: bool, text: str) -> list[str]:
    return [] if good else [text]
