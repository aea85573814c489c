"""Recorded ramps through the product's judge, tick by tick, with the verdict of each.

A recording holds raw counter samples, not the share in force. Shares are read off the traffic: where the target's part of the requests
comes to another step of the plan and stays there, the ramp moved. Moments are rounded to whole ticks.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crossfade.errors import UserError
from crossfade.judge.baseline import learn_baseline
from crossfade.judge.evidence import Evidence, Interval
from crossfade.judge.gate import Rules, judge
from crossfade.judge.state import begin
from crossfade.judge.verdict import Decision, Verdict
from crossfade.plan.gates import PromqlGate
from crossfade.plan.model import Plan
from crossfade.prometheus.recording import replay as intervals_of
from judge_bench.product import PLAN_FILE, read_plan


@dataclass(frozen=True)
class Tick:
    """One call of the judge: the step that was in force, since when, and what it said."""

    at_s: float
    step: int
    held_s: float
    requests: int
    errors: int
    verdict: Verdict


def replay(files: Sequence[Path], *, plan_file: Path | None, baseline_s: float | None) -> int:
    """Print the verdicts of each recording; 0, or 1 when one cannot be read."""
    plan, failed = read_plan(plan_file or PLAN_FILE), 0
    for path in files:
        try:
            ticks = judge_recording(intervals_of(_text(path), every_s=plan.judge.interval), plan, baseline_s=baseline_s)
        except (UserError, OSError) as error:
            print(f"{path}: {error}")
            failed = 1
        else:
            _show(path, plan, ticks)
    return failed


def judge_recording(intervals: Sequence[Interval], plan: Plan, *, baseline_s: float | None) -> list[Tick]:
    """The verdict of each tick. The baseline is what comes before the target's first request, or the first `baseline_s` seconds.

    PromQL gates are left out: a recording has no readings. After a verdict to roll back the rest is judged no more. Raises UserError
    for a recording without a request on the target.
    """
    first = next((one.start_s for one in intervals if one.target.requests), None)
    if first is None:
        raise UserError("no request ever went to the target in this recording; record from the first step on")
    begins_s = first if baseline_s is None else intervals[0].start_s + baseline_s
    before = [one for one in intervals if one.end_s <= begins_s]
    during = [one for one in intervals if one.end_s > begins_s]
    gates = {name: gate for name, gate in plan.gates.items() if not isinstance(gate, PromqlGate)}
    learned = learn_baseline(before, asked_s=plan.baseline, gates=gates, judge=plan.judge)
    rules = Rules(gates=gates, ramp=plan.ramp, judge=plan.judge, baseline=learned)
    return _judged(rules, during)


def steps_of(steps_bp: Sequence[int], intervals: Sequence[Interval], *, together: int = 4) -> list[int]:
    """The step each interval was seen at: the most likely one given the target's part of the traffic of `together` intervals.

    Steps only rise: a share that falls is the ramp's end, and is judged as the step before.
    """
    found, step = list[int](), 0
    for at in range(len(intervals)):
        ahead = intervals[at : at + together]
        target, every = sum(one.target.requests for one in ahead), sum(one.target.requests + one.source.requests for one in ahead)
        if every:
            nearest = min(range(len(steps_bp)), key=lambda index: abs(steps_bp[index] / 10_000 - target / every))
            step = max(step, nearest) if _is_plausible(steps_bp[nearest] / 10_000, target, every) else step
        found.append(step)
    return found


def _is_plausible(share: float, target: int, every: int) -> bool:
    """Within three standard deviations of what that share would give."""
    return abs(target - share * every) <= 3 * math.sqrt(every * share * (1 - share)) + 1


def _judged(rules: Rules, intervals: Sequence[Interval]) -> list[Tick]:
    steps_bp, ticks = rules.ramp.steps, list[Tick]()
    at_step = steps_of(steps_bp, intervals)
    state = begin(f"1@{intervals[0].start_s:.0f}", judge=rules.judge, since_s=intervals[0].start_s, halvings=0)
    changed_s, collected = intervals[0].start_s, list[Interval]()
    for at, interval in enumerate(intervals):
        step, collected = at_step[at], [*collected, interval]
        moves = at + 1 < len(intervals) and at_step[at + 1] != step
        if not moves and collected[-1].end_s - collected[0].start_s < rules.ramp.every and at + 1 < len(intervals):
            continue
        last = step == len(steps_bp) - 1
        next_bp = steps_bp[min(step + 1, len(steps_bp) - 1)]
        evidence = Evidence(
            boundary="soak" if last else "cutover" if next_bp == 10_000 else "step",
            step=step,
            share_bp=steps_bp[step],
            next_share_bp=next_bp,
            held_s=interval.end_s - changed_s,
            intervals=tuple(collected),
        )
        judged = judge(rules, state, evidence)
        target = [one.target for one in collected]
        said = Tick(
            interval.end_s, step, evidence.held_s, sum(one.requests for one in target), sum(one.errors for one in target), judged.verdict
        )
        state, collected = judged.state, []
        ticks.append(said)
        if said.verdict.decision is Decision.ROLL_BACK:
            break
        changed_s = interval.end_s if moves else changed_s
    return ticks


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def _show(path: Path, plan: Plan, ticks: Sequence[Tick]) -> None:
    table = Table("minute", "share", "held", "target", "errors", "verdict", "why", title=str(path), title_justify="left")
    for tick in ticks:
        verdict = tick.verdict
        table.add_row(
            f"{(tick.at_s - ticks[0].at_s + ticks[0].held_s) / 60:.1f}",
            f"{plan.ramp.steps[tick.step] / 100:g}%",
            f"{tick.held_s:.0f}s",
            str(tick.requests),
            str(tick.errors),
            str(verdict.decision),
            verdict.reason,
        )
    Console(width=160).print(table)
