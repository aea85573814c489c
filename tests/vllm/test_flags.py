"""What an installed vLLM accepts, and what becomes of a command line that asks for more.

The help text is the pinned CPU build's own, most descriptions left out; an environment that answers otherwise is a small
program that prints what it is told to.
"""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from test_command import SPEC

from crossfade.errors import ToolMissing, UserError
from crossfade.vllm.command import command
from crossfade.vllm.flags import SINCE, Accepted, accepted_by, fit, installed_flags

HELP = (Path(__file__).parent / "help" / "vllm-0.32-cpu.txt").read_text()
EVERYTHING = replace(
    SPEC,
    tool_parser="hermes",
    reasoning_parser="qwen3",
    chat_template=Path("/t.jinja"),
    chat_template_kwargs={"enable_thinking": False},
    sampling={"top_k": 40},
    flags={"enable_prefix_caching": False},
)


def test_the_pinned_vllm_knows_every_flag_we_can_write():
    accepted = accepted_by(HELP)
    assert fit(command(EVERYTHING), accepted).command == tuple(command(EVERYTHING))
    assert set(SINCE) <= accepted.flags


def test_words_in_a_description_are_not_taken_for_flags():
    assert "--quantization_config.moe.backend" not in accepted_by(HELP).flags
    assert accepted_by("  --real X    or --not-this\n             --nor-this\n  -q X, --quick X\n").flags == {"--real", "--quick"}


def test_an_older_vllm_is_not_given_what_can_be_done_without_and_the_loss_is_said():
    older = Accepted(accepted_by(HELP).flags - {"--shutdown-timeout"}, frozenset())
    fitted = fit(command(SPEC), older)
    assert "--shutdown-timeout" not in fitted.command
    assert "30" not in fitted.command
    assert fitted.left_out == (
        "--shutdown-timeout is unknown to this vLLM (it came with 0.18): " + "answers under way are cut when it is stopped (H14)",
    )


def test_an_older_vllm_without_a_flag_that_matters_is_refused_before_it_starts():
    older = Accepted(accepted_by(HELP).flags - {"--kv-cache-memory-bytes"}, frozenset())
    with pytest.raises(UserError, match=r"does not know --kv-cache-memory-bytes \(it came with 0\.11\).*target\.vllm"):
        fit(command(SPEC), older)


def test_a_flag_the_user_mistyped_is_refused_with_its_name():
    with pytest.raises(UserError, match=r"does not know --max-num-batched-token\."):
        fit(command(replace(SPEC, flags={"max_num_batched_token": 1})), accepted_by(HELP))


def test_a_tool_parser_this_vllm_lacks_is_refused_with_those_it_has():
    with pytest.raises(UserError, match=r"no tool parser hermess.*hermes,"):
        fit(command(replace(SPEC, tool_parser="hermess")), accepted_by(HELP))


@pytest.fixture
def environment_saying(tmp_path):
    """An environment whose vLLM prints a help of ours, and counts how often it is asked."""

    def make(text, status=0):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "lib/python3.11/site-packages/vllm-1.dist-info").mkdir(parents=True, exist_ok=True)
        (tmp_path / "help").write_text(text)
        python = tmp_path / "bin" / "python"
        python.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncat {tmp_path}/help\nexit {status}\n")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return python

    return make


def test_a_vllm_is_asked_once_and_again_when_other_packages_are_installed(environment_saying, tmp_path):
    python = environment_saying(HELP)
    first = installed_flags(python, os.environ)
    assert first == accepted_by(HELP) == installed_flags(python, os.environ)
    assert (tmp_path / "asked").read_text().count("asked") == 1
    (tmp_path / "lib/python3.11/site-packages/vllm-2.dist-info").mkdir()
    (tmp_path / "help").write_text("  --new-flag\n")
    assert installed_flags(python, os.environ).flags == {"--new-flag"}


def test_a_vllm_that_cannot_print_its_help_says_how_to_build_it_again(environment_saying):
    with pytest.raises(ToolMissing, match="crossfade environment vllm"):
        installed_flags(environment_saying("", status=1), os.environ)
    with pytest.raises(ToolMissing, match="lists no flag"):
        installed_flags(environment_saying("usage: something else\n"), os.environ)


def test_what_was_kept_and_cannot_be_read_is_asked_anew(environment_saying, tmp_path):
    python = environment_saying(HELP)
    (tmp_path / "crossfade-flags.json").write_text("{half")
    assert installed_flags(python, os.environ) == accepted_by(HELP)
