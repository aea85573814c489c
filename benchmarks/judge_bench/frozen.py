"""The holdout rule: parameters are noted before anybody sees what they do to a holdout, and judge.py refuses to judge one with others."""

from __future__ import annotations

import json
from pathlib import Path

from judge_bench.contest import Setup
from judge_bench.scenario import ScenarioFile, read_scenarios

FROZEN_FILE = Path(__file__).parents[1] / "scenarios" / "frozen.json"


def freeze(settings: Setup, holdout: Path, *, frozen_file: Path = FROZEN_FILE) -> None:
    """Note the present parameters, and the holdout they are meant for."""
    document = {
        "parameters_digest": settings.digest,
        "holdout_digest": read_scenarios(holdout).digest,
        "parameters": settings.parameters,
    }
    frozen_file.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{frozen_file}: frozen {settings.digest}; commit it before the holdout is run")


def refuse_unless_frozen(settings: Setup, path: Path, file: ScenarioFile, *, frozen_file: Path = FROZEN_FILE) -> None:
    """Nothing for files that are no holdout. Ends the program when parameters or scenarios are not the frozen ones."""
    if not file.holdout:
        return
    frozen = json.loads(frozen_file.read_text()) if frozen_file.exists() else {}
    if frozen.get("parameters_digest") != settings.digest:
        raise SystemExit(
            f"{path} is a holdout, and the parameters {settings.digest} are not those frozen ({frozen.get('parameters_digest', 'none')}). "
            "Run with --freeze before you look at its results. If you changed them because of its results, its scenarios belong into "
            "known.toml and a new holdout is due."
        )
    if frozen.get("holdout_digest") != file.digest:
        raise SystemExit(f"{path} is not the holdout that was frozen; run with --freeze before you look at the results of this one.")
