"""The command line as a person meets it: exit codes, one message, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: "lab:latest", huggingface: a/b}]
parity: {skip: "the test of a command line"}
"""


@pytest.fixture
def crossfade(tmp_path: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "CROSSFADE_HOME": str(tmp_path / "home"),
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
            "COLUMNS": "100",
        }
        command = [sys.executable, "-m", "crossfade.cli", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (GOOD.replace("name:", "nam:"), 1, "nam"),
        (GOOD.replace("models: ", "model: "), 3, "model"),
        (GOOD + "ramp: {steps: [50%, 10%, 100%]}\n", 5, "steps"),
        (GOOD + "ramp:\n  steps: [10%, 120%]\n", 6, "120%"),
        (GOOD + "ramp: {steps: [10%]}\n", 5, "100%"),
        (GOOD + "soak: 30\n", 5, "30"),
        (GOOD + "gates: {ttft_p95: {at_most: 500}}\n", 5, "500"),
        (GOOD.replace("skip:", "suite:"), 4, "a command line"),
        (GOOD.replace('{url: "http://127.0.0.1:1"}', "&a [*a]"), 2, "alias"),
        ("name: [", 1, "YAML"),
    ],
)
def test_a_bad_plan_is_answered_with_file_line_and_exit_code_2(crossfade, tmp_path: Path, text: str, line: int, word: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    for command in (("plan", "check"), ("migrate",)):
        done = crossfade(*command, "plan.yaml")
        assert done.returncode == 2
        assert f"plan.yaml:{line}" in done.stderr
        assert word in done.stderr


def test_a_plan_without_its_gates_has_them_by_default(crossfade, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(GOOD)
    assert crossfade("plan", "check", "plan.yaml").returncode == 0
    shown = crossfade("plan", "show", "plan.yaml").stdout
    assert "error_rate" in shown
    assert "router_scraped" in shown


def test_the_example_plan_is_good_and_never_overwrites(crossfade) -> None:
    assert crossfade("plan", "init").returncode == 0
    assert crossfade("plan", "check", "plan.yaml").returncode == 0
    again = crossfade("plan", "init")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)


def test_the_example_leaves_prompts_that_are_there_alone(crossfade, tmp_path: Path) -> None:
    mine = '{"prompt": "mine"}\n'
    (tmp_path / "prompts.jsonl").write_text(mine)
    assert crossfade("plan", "init", "second.yaml").returncode == 0
    assert (tmp_path / "prompts.jsonl").read_text() == mine
    assert crossfade("plan", "check", "second.yaml").returncode == 0


def test_an_example_in_no_folder_is_the_users_mistake(crossfade) -> None:
    done = crossfade("plan", "init", "nowhere/plan.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "nowhere/plan.yaml: cannot be written: No such file or directory" in done.stderr


def test_migrate_without_a_prefect_server_says_where_it_looked(crossfade, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(GOOD)
    done = crossfade("migrate", "plan.yaml")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "PREFECT_API_URL" in done.stderr


def test_rolling_back_a_name_nobody_knows_is_the_users_mistake(crossfade) -> None:
    done = crossfade("rollback", "chat/nobody")
    assert (done.returncode, "chat/nobody" in done.stderr) == (2, True)


def test_status_of_an_empty_journal_says_how_to_begin(crossfade) -> None:
    assert "crossfade migrate" in crossfade("status").stdout


def test_a_word_that_is_no_command_is_refused(crossfade) -> None:
    assert crossfade("migrat").returncode == 2
