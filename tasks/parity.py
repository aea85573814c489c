"""Ask both engines the same questions and compare what they say."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from pydantic import BaseModel

from crossfade.errors import ParityFailed, PlanInvalid
from crossfade.judge.verdict import Decision, Verdict
from crossfade.parity.cases import Case, load_suite
from crossfade.parity.verdict import Pair, ParityReport, compare, judge_parity
from crossfade.ports import Engine
from crossfade.ramp.logbook import Because
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.wiring import Bench
from tasks.artifacts import table
from tasks.progress import Progress
from tasks.stage import Report, stage

AT_ONCE = 4
"""Few enough that a source which answers one request at a time is not pushed out of its users' way."""


class Compared(BaseModel):
    """The comparison and what was made of it."""

    report: ParityReport
    verdict: Verdict


@stage("parity", milestone=Phase.PROVEN, gates="parity", retries=2, timeout=timedelta(hours=6))
def prove_parity(bench: Bench, state: MigrationState) -> Report:
    """Every prompt of the suite, greedy, on both sides: identical texts, right answers, and right answers lost."""
    if bench.plan.parity.skip:
        why = f"parity was skipped, because the plan says: {bench.plan.parity.skip}"
        return Report(why, f"# Parity\n\n{why}\n", Because(why=why))
    cases = _suite(bench)
    progress = Progress(bench.migration, "parity", bench.desk.clock)
    source = _answers(bench.source, bench, cases, progress, "source")
    target = _answers(bench.target, bench, cases, progress, "target")
    pairs = [Pair(case, left, right) for case, left, right in zip(cases, source, target, strict=True)]
    report = compare(pairs)
    verdict = judge_parity(report, bench.plan.parity)
    markdown = _markdown(report, verdict)
    if verdict.decision is not Decision.PROMOTE:
        refusal = ParityFailed(f"{bench.migration}: {verdict.reason}. {verdict.next_action}")
        refusal.add_note(markdown)
        raise refusal
    summary = f"{report.n} prompts: identical {report.identical}, right {report.correct_source} -> {report.correct_target}"
    return Report(summary, markdown, Compared(report=report, verdict=verdict))


def _markdown(report: ParityReport, verdict: Verdict) -> str:
    tasks = [(t.task, str(t.identical), str(t.correct_source), str(t.correct_target)) for t in report.tasks]
    lost = [(d.prompt, d.answer or "", d.source, d.target) for d in report.lost[:20]]
    examples = [(d.prompt, d.source, d.target) for d in report.examples]
    return (
        f"# Parity over {report.n} prompts: {verdict.decision}\n\n{verdict.reason}\n\n"
        f"{table(('task', 'identical', 'source right', 'target right'), tasks)}\n\n"
        f"## Right answers lost\n\n{table(('prompt', 'right', 'source', 'target'), lost)}\n\n"
        f"## First differences\n\n{table(('prompt', 'source', 'target'), examples)}\n"
    )


def _suite(bench: Bench) -> Sequence[Case]:
    suite = bench.plan.parity.suite
    if suite is None:
        raise ParityFailed("the plan names no parity suite. Write prompts, one JSON object a line, and name the file in parity.suite.")
    try:
        return load_suite(suite.read_text(encoding="utf-8"), str(suite))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanInvalid(f"{suite}: cannot read the parity suite: {error}. Check parity.suite in the plan.") from None


def _answers(engine: Engine, bench: Bench, cases: Sequence[Case], progress: Progress, side: str) -> list[str]:
    model, limit = bench.model.ollama, bench.plan.parity.max_tokens
    texts: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in pool.map(lambda case: engine.complete(model, case.prompt, max_tokens=limit).text, cases):
            texts.append(done)
            progress.at(len(texts), len(cases), f"{len(texts)} of {len(cases)} prompts on the {side}")
    return texts
