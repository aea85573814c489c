"""The table of ways to quantize, where tools are missing and where they are not."""

import sys
from pathlib import Path

import pytest

from crossfade.errors import UserError
from crossfade.home import Home
from crossfade.lab.quantize_table import WAYS, Line, as_markdown, measure, ways_of
from crossfade.parity.drift import Answer, measure_drift

MAKES_AND_THEN_HANGS = """
import json, shutil, sys, time
job = json.load(open(sys.argv[2]))
if "base" in job:
    time.sleep(1000)
shutil.copy(job["source"] + "/model.safetensors", job["out"])
json.dump({"quantization_config": {}}, open(job["out"] + "/config.json", "w"))
print(json.dumps({"event": "result", "text": "made"}), flush=True)
"""
"""Makes weights at once, and never compares them."""


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


def test_only_the_schemes_asked_for_are_measured_and_unknown_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_ENVIRONMENTS", str(tmp_path / "none"))
    lines = list(measure(tmp_path / "work", Home(tmp_path), print, ways=ways_of(["awq", "fp8"])))
    assert [f"{line.way.tool} {line.way.scheme}" for line in lines] == ["llm-compressor fp8", "llm-compressor awq", "autoawq awq"]
    with pytest.raises(UserError, match="no way makes 'int4'; the table knows awq, fp8, gptq, w8a8"):
        ways_of(["int4"])


def test_a_way_that_takes_too_long_is_stopped_and_is_a_line_that_says_so(tmp_path: Path) -> None:
    """A program that never ends stands where the tool's Python does."""
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    (line,) = measure(tmp_path / "work", Home(tmp_path), print, ways=ways_of(["fp8"]), deadline_s=1, tool=lambda _: program)
    assert line.overdue
    assert line.report is None
    table = as_markdown([line])
    assert "| llm-compressor | fp8: FP8_DYNAMIC, data-free | - | - | not in time |" in table
    assert "the quantizer was stopped after 1 s" in table


def test_an_engine_that_does_not_answer_in_time_leaves_the_weights_with_the_time_they_took(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text(f"#!{sys.executable}\n" + MAKES_AND_THEN_HANGS)
    program.chmod(0o755)
    (line,) = measure(tmp_path / "work", Home(tmp_path), print, ways=ways_of(["fp8"]), deadline_s=3, tool=lambda _: program)
    assert line.overdue
    assert line.seconds is not None
    assert "| not in time |" in as_markdown([line])
    assert "vLLM, asked to compare weights, was stopped" in line.problem
    (again,) = measure(tmp_path / "work", Home(tmp_path), print, ways=ways_of(["fp8"]), deadline_s=1, tool=lambda _: program)
    assert again.seconds == pytest.approx(line.seconds, abs=0.1)
