"""Outcomes of replications summed up: per scenario and rule, pooled over a file, and as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from rows import Row

from judge_bench.contest import jobs_of
from judge_bench.ramp import Outcome
from judge_bench.scenario import Kind, Scenario, ScenarioFile

RESULTS_BEGIN = "<!-- written by benchmarks/judge.py from here on -->"


@dataclass(frozen=True)
class Cell:
    """One rule in one scenario. Minutes and requests are medians over the ramps they are about, NaN where there are none;
    `bad_mean` is over all ramps. `minutes_full_of_all` counts a ramp that never got there as endless."""

    rule: str
    replications: int
    rolled_back_pct: float
    full_pct: float
    minutes_full: float
    minutes_full_of_all: float
    minutes_rolled_back: float
    requests_rolled_back: float
    bad_rolled_back: float
    bad_mean: float


@dataclass(frozen=True)
class Contest:
    """All outcomes of one scenario file, in the order of its scenarios and rules."""

    file: ScenarioFile
    rules: tuple[str, ...]
    replications: int
    outcomes: Mapping[tuple[str, str], Sequence[Outcome]]

    @property
    def slug(self) -> str:
        """Of the title, for row names."""
        return re.sub(r"\W+", "_", self.file.title.lower()).strip("_")

    def cell(self, scenario: Scenario, rule: str) -> Cell:
        """The summary of one cell."""
        return _cell(rule, self.outcomes[scenario.name, rule])

    def pooled(self, rule: str) -> dict[str, tuple[float, int]]:
        """`bad_promoted_pct` and `good_rolled_back_pct` with the number of ramps they are of.

        A ramp of a bad target that got all traffic before its defect was there is no wrong promotion and is left out.
        """
        bad = [one for one in self._of("bad", rule) if one.full_s < 0 or one.defect_first]
        good = self._of("good", rule)
        return {
            "bad_promoted_pct": (_percent(one.full_s >= 0 for one in bad), len(bad)),
            "good_rolled_back_pct": (_percent(one.rolled_back_s >= 0 for one in good), len(good)),
        }

    def _of(self, kind: Kind, rule: str) -> list[Outcome]:
        names = [one.name for one in self.file.scenario if one.kind == kind and one.pooled]
        return [outcome for name in names for outcome in self.outcomes[name, rule]]


def contest_of(file: ScenarioFile, rules: tuple[str, ...], replications: int, done: Mapping[str, Sequence[Outcome]]) -> Contest:
    """The blocks of a file put together again."""
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    for job in jobs_of(file, rules, replications):
        outcomes.setdefault((job.scenario.name, job.rule), []).extend(done[job.key])
    return Contest(file, rules, replications, outcomes)


def pooled_rows(contest: Contest, product: str) -> list[Row]:
    """The design's rows where the file is a holdout; the other rules' beside them, to compare with."""
    bars = {"bad_promoted_pct": "<= 1", "good_rolled_back_pct": "<= 5"}
    rows = []
    for rule in contest.rules:
        for name, (value, n) in contest.pooled(rule).items():
            if n:
                promised = contest.file.holdout and rule == product
                who = ("judge" if rule == product else rule.replace("-", "_")) + ("" if contest.file.holdout else f"_{contest.slug}")
                rows.append(Row(f"{who}_{name}", value, "%", bars[name] if promised else "", n))
    return rows


def as_document(contest: Contest) -> dict[str, object]:
    """For the JSON file. What does not exist is null, because JSON has no NaN."""
    scenarios = [
        {
            "name": scenario.name,
            "kind": scenario.kind,
            "left_out": scenario.left_out,
            "rules": {
                rule: {k: _or_none(v) for k, v in vars(contest.cell(scenario, rule)).items() if k != "rule"} for rule in contest.rules
            },
        }
        for scenario in contest.file.scenario
    ]
    file = contest.file
    return {"title": file.title, "holdout": file.holdout, "seed": file.seed, "digest": file.digest, "scenarios": scenarios}


def as_markdown(contest: Contest) -> str:
    """Three tables: what becomes of good versions, of bad ones, and what the bad ones cost."""
    file = contest.file
    parts = [
        f"## {file.title} ({'holdout: nobody tuned on these' if file.holdout else 'no holdout: may have been tuned on'})\n",
        f"{contest.replications} ramps a scenario and rule, seed {file.seed}, scenarios `{file.digest}`.\n",
        "### Good and edge versions: % rolled back / % reached 100 % [median minutes to 100 %]\n",
        _table(contest, ("good", "edge"), _good),
        "### Bad versions: % reached 100 % / % rolled back (the rest still holds after 6 h)\n",
        _table(contest, ("bad",), _bad),
        "### Bad versions: median minutes to roll back, target's requests and bad ones by then; mean bad requests over all ramps\n",
        _table(contest, ("bad",), _cost),
    ]
    return "\n".join(parts)


def write_markdown(path: Path, text: str) -> None:
    """Put `text` after the marker line in `path`; what somebody wrote above it stays."""
    above = path.read_text().partition(RESULTS_BEGIN)[0] if path.exists() else "# Judge benchmark\n\n"
    path.write_text(f"{above}{RESULTS_BEGIN}\n\n{text}")


def _table(contest: Contest, kinds: tuple[Kind, ...], said: Callable[[Cell], str]) -> str:
    lines = [f"| scenario | {' | '.join(contest.rules)} |", "|---" * (len(contest.rules) + 1) + "|"]
    for scenario in contest.file.scenario:
        if scenario.kind in kinds:
            mark = " (edge)" if scenario.kind == "edge" else " (not pooled)" if scenario.left_out else ""
            cells = [said(contest.cell(scenario, rule)) for rule in contest.rules]
            lines.append(f"| {scenario.name}{mark} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _good(cell: Cell) -> str:
    return f"{_short(cell.rolled_back_pct)} / {_short(cell.full_pct)} [{_short(cell.minutes_full)}]"


def _bad(cell: Cell) -> str:
    return f"{_short(cell.full_pct)} / {_short(cell.rolled_back_pct)}"


def _cost(cell: Cell) -> str:
    until = f"{_short(cell.minutes_rolled_back)} min, {_short(cell.requests_rolled_back)}, {_short(cell.bad_rolled_back)}"
    return f"{until}; {_short(cell.bad_mean)}"


def _cell(rule: str, outcomes: Sequence[Outcome]) -> Cell:
    back = [one for one in outcomes if one.rolled_back_s >= 0]
    full_min = [one.full_s / 60 for one in outcomes if one.full_s >= 0]
    return Cell(
        rule=rule,
        replications=len(outcomes),
        rolled_back_pct=_percent(one.rolled_back_s >= 0 for one in outcomes),
        full_pct=_percent(one.full_s >= 0 for one in outcomes),
        minutes_full=_median(full_min),
        minutes_full_of_all=_median([*full_min, *[math.inf] * (len(outcomes) - len(full_min))]),
        minutes_rolled_back=_median([one.rolled_back_s / 60 for one in back]),
        requests_rolled_back=_median([one.target_requests for one in back]),
        bad_rolled_back=_median([one.target_bad for one in back]),
        bad_mean=mean(one.target_bad for one in outcomes),
    )


def _percent(hits: Iterable[bool]) -> float:
    found = list(hits)
    return 100 * sum(found) / len(found) if found else math.nan


def _median(values: Sequence[float]) -> float:
    return median(values) if values else math.nan


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}".removesuffix(".0")


def _or_none(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
