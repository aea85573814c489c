"""Every row of the diagnosis against a start log.

Logs called `real.*` were printed by vLLM 0.32's CPU build made to fail that way, traceback frames left out; `synthetic.*` are
made of vLLM's own message texts, because they need a GPU or the hub.
"""

from pathlib import Path

import pytest

from crossfade.vllm.diagnosis import diagnose
from crossfade.vllm.signatures import SIGNATURES, Category, Retry

LOGS = sorted((Path(__file__).parent / "start_logs").glob("*.log"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_a_start_log_gives_its_diagnosis(log):
    found = diagnose(log.read_text(), 1)
    assert found.category == Category(log.name.split(".")[1])
    assert found.detail
    assert "Engine core initialization failed" not in found.detail
    assert found.summary
    assert found.resolution.endswith(".")


def test_every_row_has_a_log_or_an_exit_code():
    shown = {log.name.split(".")[1] for log in LOGS}
    unproven = [row.category for row in SIGNATURES if row.category not in shown and not row.exit_codes]
    assert unproven == []


def test_every_category_is_reached_by_exactly_one_row():
    categories = [row.category for row in SIGNATURES]
    assert sorted([*categories, Category.UNKNOWN]) == sorted(Category)


@pytest.mark.parametrize(("code", "category"), [(-9, Category.KILLED), (137, Category.KILLED), (-15, Category.KILLED_BY_PROBE)])
def test_a_log_without_a_cause_is_explained_by_the_exit_code(code, category):
    found = diagnose("(APIServer pid=7) INFO 11-02 09:14:31 [model.py:733] Resolved architecture: LlamaForCausalLM\n", code)
    assert found.category == category
    assert found.retry is Retry.LATER


def test_a_cause_in_the_log_beats_the_exit_code():
    assert diagnose("OSError: [Errno 98] Address already in use", -9).category == Category.PORT_IN_USE


def test_an_unknown_death_shows_the_last_error_and_not_the_wrapper_around_it():
    log = "ValueError: the moon is in the wrong house\nRuntimeError: Engine core initialization failed. See root cause above."
    found = diagnose(log, 1)
    assert found.category == Category.UNKNOWN
    assert found.detail == "ValueError: the moon is in the wrong house"


def test_a_warning_that_only_mentions_a_cause_is_no_cause():
    warning = "(APIServer pid=7) WARNING 11-02 09:14:31 [x.py:1] Bfloat16 is only supported on GPUs with compute capability of at least 8.0"
    assert diagnose(warning, 1).category == Category.UNKNOWN


def test_an_empty_log_still_says_something():
    assert diagnose("", None).detail == "exit code unknown"


def test_a_line_that_lists_every_architecture_is_cut_short():
    log = next(log for log in LOGS if log.stem == "real.architecture_unknown.class")
    assert len(diagnose(log.read_text(), 1).detail) <= 300


def test_only_what_passes_by_itself_is_worth_the_same_command_again():
    later = {row.category for row in SIGNATURES if row.retry is Retry.LATER}
    assert later == {Category.CO_TENANT_MOVED, Category.START_TOO_SLOW, Category.KILLED_BY_PROBE, Category.KILLED}
