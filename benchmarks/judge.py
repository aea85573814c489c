"""How often the judge is wrong, how long it takes to be right, and what it costs, beside the rules of Flagger, Argo Rollouts and Kayenta.

    python benchmarks/judge.py [--replications 300] [--jobs 2] [--json FILE] [--markdown FILE]
    python benchmarks/judge.py --scenarios FILE...      other scenarios instead; --also FILE... beside the shipped ones
    python benchmarks/judge.py --freeze                 note the parameters a holdout may be judged with
    python benchmarks/judge.py --replay FILE...         recorded ramps, tick by tick, by the product's judge

Ramps are simulated with fixed seeds, the same arrivals for every rule; docs/benchmarks/judge.md says how, and what came out. The other
tools' rules are written anew here, with one plausible configuration each.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from judge_bench.contest import DEFAULT_RULES, PRODUCT, RULES, Setup, jobs_of, judge_digest, run_all, setup
from judge_bench.frozen import freeze, refuse_unless_frozen
from judge_bench.replay import replay
from judge_bench.results import Contest, as_document, as_markdown, contest_of, pooled_rows, write_markdown
from judge_bench.scenario import read_scenarios
from judge_bench.timing import judge_rows
from rows import Row, machine, report

SHIPPED = tuple(Path(__file__).parent / "scenarios" / name for name in ("known.toml", "holdout.toml"))
FIFTY_RPS = "good 50 rps"


def main() -> None:
    """Play, print, and write."""
    chosen = _arguments()
    if chosen.replay:
        raise SystemExit(replay(chosen.replay, plan_file=chosen.plan, baseline_s=chosen.baseline_s))
    settings = setup()
    if chosen.freeze:
        freeze(settings, SHIPPED[1])
        return
    files = {path: read_scenarios(path) for path in (*(chosen.scenarios or SHIPPED), *chosen.also)}
    for path, file in files.items():
        refuse_unless_frozen(settings, path, file)
    rows = judge_rows() if PRODUCT in chosen.rules else []
    began = time.monotonic()
    jobs = [job for file in files.values() for job in jobs_of(file, chosen.rules, chosen.replications)]
    try:
        done = run_all(jobs, settings, processes=chosen.jobs, checkpoint=chosen.checkpoint)
    except KeyboardInterrupt:
        again = "the same command goes on from there" if chosen.checkpoint else "with --checkpoint FILE the next run could go on from here"
        raise SystemExit(f"interrupted after {(time.monotonic() - began) / 60:.1f} minutes; {again}") from None
    contests = [contest_of(file, chosen.rules, chosen.replications, done) for file in files.values()]
    rows += [row for contest in contests for row in [*pooled_rows(contest, PRODUCT), *_product_rows(contest)]]
    measured_on = machine(jobs=str(chosen.jobs), minutes_taken=f"{(time.monotonic() - began) / 60:.1f}")
    _hand_back(chosen, settings, measured_on, rows, contests)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenarios", type=Path, nargs="+", metavar="FILE", help="instead of the shipped scenarios")
    parser.add_argument("--also", type=Path, nargs="+", default=[], metavar="FILE", help="beside them")
    parser.add_argument("--rules", type=_rules, default=DEFAULT_RULES, help=f"of {','.join(RULES)}; default {','.join(DEFAULT_RULES)}")
    parser.add_argument("--replications", type=int, default=300, metavar="N")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="keep finished blocks there, and go on from it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, rows, parameters and all results there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, after what stands before the marker line")
    parser.add_argument("--freeze", action="store_true", help="note the present parameters and the shipped holdout, and end")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="judge recordings instead")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="with --replay: the plan to judge by, instead of the benchmark's")
    parser.add_argument("--baseline-s", type=float, metavar="S", help="with --replay: seconds at the start that are the baseline")
    return parser.parse_args()


def _rules(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = sorted(set(chosen) - set(RULES))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no rule {unknown[0]!r}; known are {', '.join(RULES)}")
    return chosen


def _product_rows(contest: Contest) -> list[Row]:
    """Time and memory of the product's judge."""
    if PRODUCT not in contest.rules:
        return []
    largest = [one.memory_bytes for scenario in contest.file.scenario for one in contest.outcomes[scenario.name, PRODUCT]]
    rows = [Row(f"judge_state_bytes_max_{contest.slug}", max(largest), "bytes", "<= 65536", len(largest))]
    fifty = next((scenario for scenario in contest.file.scenario if scenario.name == FIFTY_RPS), None)
    if fifty:
        rows.append(Row("judge_good_50rps_minutes", contest.cell(fifty, PRODUCT).minutes_full_of_all, "min", "<= 25", contest.replications))
    return rows


def _hand_back(
    chosen: argparse.Namespace, settings: Setup, measured_on: dict[str, str | int | float], rows: list[Row], contests: list[Contest]
) -> None:
    report(f"Judge: {chosen.replications} ramps a scenario and rule", measured_on, rows, None)
    print(f"parameters {settings.digest}, judge {judge_digest()}")
    if chosen.json:
        document = {
            "machine": measured_on,
            "rows": [asdict(row) for row in rows],
            "parameters_digest": settings.digest,
            "judge_digest": judge_digest(),
            "parameters": settings.parameters,
            "replications": chosen.replications,
            "files": [as_document(contest) for contest in contests],
        }
        chosen.json.write_text(json.dumps(document, indent=1) + "\n")
    tables = "\n".join(as_markdown(contest) for contest in contests)
    if chosen.markdown:
        write_markdown(chosen.markdown, f"{_heading(settings, measured_on, rows)}\n{tables}")
    else:
        print(f"\n{tables}")


def _heading(settings: Setup, measured_on: dict[str, str | int | float], rows: list[Row]) -> str:
    lines = [
        f"Parameters `{settings.digest}`, judge `{judge_digest()}`. {measured_on['cpu']}, {measured_on['cores']} cores, "
        f"Python {measured_on['python']}; {measured_on['minutes_taken']} minutes with {measured_on['jobs']} processes.\n",
        "| row | value | unit | bar | | n |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| `{row.name}` | {row.value:.4g} | {row.unit} | {row.bar} | {row.met()} | {row.n:,} |" for row in rows]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
