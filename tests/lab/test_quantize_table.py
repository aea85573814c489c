"""The table of ways to quantize, where tools are missing and where they are not."""

from pathlib import Path

import pytest

from crossfade.home import Home
from crossfade.lab.quantize_table import WAYS, Line, as_markdown, measure
from crossfade.parity.drift import Answer, measure_drift


def test_a_tool_that_is_not_built_is_a_line_that_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_ENVIRONMENTS", str(tmp_path / "none"))
    said: list[str] = []
    lines = list(measure(tmp_path / "work", Home(tmp_path), said.append))
    assert [line.way for line in lines] == list(WAYS)
    assert all(f"crossfade environment {line.way.tool.replace('-', '')}" in line.problem for line in lines)
    table = as_markdown(lines)
    assert table.count("| not made |") == len(WAYS)


def test_half_of_the_prompts_calibrate_and_the_other_half_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_ENVIRONMENTS", str(tmp_path / "none"))
    next(measure(tmp_path / "work", Home(tmp_path), print))
    calibration, held_out = ((tmp_path / "work" / name).read_text().splitlines() for name in ("calibration.jsonl", "held-out.jsonl"))
    assert (len(calibration), len(held_out)) == (90, 90)
    assert not set(calibration) & set(held_out)


def test_the_table_tells_what_loads_and_what_does_not() -> None:
    answer = Answer(prompt="a", base_text="b", text="c", base_logprobs=(-0.1,), logprobs=(-0.2,), base_first=(True,), first=(True,))
    report = measure_drift([answer], engine="vllm", suite="s")
    good, bad = Line(WAYS[0], "tool 1", 3.2, 2000, report), Line(WAYS[1], "tool 1", 1.0, 1000, problem="no kernel")
    table = as_markdown([good, bad]).splitlines()
    assert "| tool 1 | fp8: FP8_DYNAMIC, data-free | 3 | 2,000 | yes | 1 of 1 | 0 of 1 | 0.1000 | 0.100 |" in table
    assert any("**no**" in line for line in table)
    assert any("no kernel" in line for line in table)
