"""What a plan gets wrong as a whole, or in the files it names, is said when it is handed in and not after the download."""

from pathlib import Path

import pytest

from crossfade.errors import PlanInvalid
from crossfade.plan import load_plan
from crossfade.plan.load import parse_plan

GOOD = """\
name: chat
source: {url: http://127.0.0.1:11435}
models: [{ollama: "lab:latest", huggingface: a/b}]
target: {runtime: {port: 8000}}
router: {listen: 127.0.0.1:11434, metrics_listen: 127.0.0.1:9902}
parity: {suite: prompts.jsonl}
"""


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "What is 4+6?", "answer": "10"}\n')
    return tmp_path / "plan.yaml"


def refused(plan_file: Path, text: str) -> list[str]:
    """The lines of the refusal, without the plan's name."""
    plan_file.write_text(text)
    with pytest.raises(PlanInvalid) as caught:
        load_plan(str(plan_file))
    return [line.removeprefix(f"{plan_file}:") for line in str(caught.value).splitlines()]


def test_a_plan_whose_addresses_and_files_are_right_loads(plan_file: Path) -> None:
    plan_file.write_text(GOOD)
    assert load_plan(str(plan_file)).plan.parity.suite == plan_file.parent / "prompts.jsonl"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("127.0.0.1:9902", "127.0.0.1:11434", "5: router.metrics_listen: 127.0.0.1:11434 is where router.listen is"),
        ("127.0.0.1:9902", "0.0.0.0:11434", "5: router.metrics_listen: 0.0.0.0:11434 is where router.listen is"),
        ("port: 8000", "port: 11434", "4: target.runtime.port: 127.0.0.1:11434 is where router.listen is"),
        ("port: 8000", "port: 9902", "4: target.runtime.port: 127.0.0.1:9902 is where router.metrics_listen is"),
        ("port: 8000", "port: 11435", "4: target.runtime.port: 127.0.0.1:11435 is where source.url is"),
        ("127.0.0.1:11434,", "0.0.0.0:8000,", "4: target.runtime.port: 127.0.0.1:8000 is where router.listen is, 0.0.0.0:8000"),
        ("{port: 8000}", "{port: 8000}, reach: 'localhost:11434'", "4: target.reach: localhost:11434 is where router.listen is"),
        ("{port: 8000}", "{port: 8000}, reach: '127.0.0.1:11435'", "4: target.reach: 127.0.0.1:11435 is where source.url is"),
        (":11435", ":11434", "2: source.url: 127.0.0.1:11434 is where router.listen is"),
    ],
)
def test_two_things_at_one_address_are_refused(plan_file: Path, old: str, new: str, said: str) -> None:
    (line,) = refused(plan_file, GOOD.replace(old, new, 1))
    assert line.startswith(said)
    assert line.endswith("give one of the two another port")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{port: 8000}", "{port: 8000}, reach: 'localhost:8000'"),
        ("{port: 8000}", "{port: 8000}, reach: '127.0.0.1:8001'"),
        ("127.0.0.1:11435", "10.0.0.7:11434"),
        ("127.0.0.1:11435", "ollama"),
    ],
)
def test_addresses_that_differ_are_left_alone(plan_file: Path, old: str, new: str) -> None:
    plan_file.write_text(GOOD.replace(old, new, 1))
    load_plan(str(plan_file))


def test_a_plan_without_a_suite_is_refused_with_both_ways_out(plan_file: Path) -> None:
    (line,) = refused(plan_file, GOOD.replace("parity: {suite: prompts.jsonl}\n", ""))
    assert line.startswith('1: parity.suite: is missing: name a JSONL file of prompts, one {"prompt": "...", "answer": "..."} a line')
    assert 'parity: {skip: "reason"}' in line


def test_a_reason_to_skip_parity_takes_the_suites_place(plan_file: Path) -> None:
    plan_file.write_text(GOOD.replace("suite: prompts.jsonl", "skip: no two answers of this model are alike"))
    assert load_plan(str(plan_file)).plan.parity.skip == "no two answers of this model are alike"


@pytest.mark.parametrize("reason", ["''", "'  '"])
def test_an_empty_reason_is_none(plan_file: Path, reason: str) -> None:
    assert "is missing" in refused(plan_file, GOOD.replace("suite: prompts.jsonl", f"skip: {reason}"))[0]


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (None, "6: parity.suite: cannot read {}: No such file or directory; paths are relative to the plan's folder"),
        (b"", "6: parity.suite: {}:1: the suite has no case"),
        (b"\n \n", "6: parity.suite: {}:1: the suite has no case"),
        (b'{"prompt": "x"}\nnonsense\n', "6: parity.suite: {}:2: this is not JSON"),
        (b'{"question": "x"}\n', "6: parity.suite: {}:1: prompt: is required"),
        (b'{"prompt": "gr\xfc\xdfe"}\n', "6: parity.suite: {} is not UTF-8 text"),
    ],
)
def test_a_suite_that_cannot_be_used_is_named_where_the_plan_names_it(plan_file: Path, suite: bytes | None, said: str) -> None:
    file = plan_file.parent / "prompts.jsonl"
    file.unlink()
    if suite is not None:
        file.write_bytes(suite)
    (line,) = refused(plan_file, GOOD)
    assert line.startswith(said.format(file))


def test_a_folder_is_no_suite(plan_file: Path) -> None:
    assert "Is a directory" in refused(plan_file, GOOD.replace("prompts.jsonl", "."))[0]


def test_prompts_to_compare_weights_with_are_looked_for_too(plan_file: Path) -> None:
    assert "drift.suite: cannot read" in refused(plan_file, f"{GOOD}drift: {{suite: held-out.jsonl}}\n")[0]


def test_autoawq_is_refused_for_what_it_cannot_make(plan_file: Path) -> None:
    text = GOOD.replace("huggingface: a/b", "huggingface: a/b, quantize: fp8, quantizer: autoawq")
    assert "autoawq makes awq only; write quantize: awq" in refused(plan_file, text)[0]


def test_calibration_prompts_are_looked_for_too(plan_file: Path) -> None:
    text = GOOD.replace("huggingface: a/b", "huggingface: a/b, quantize: awq, calibration: calibration.jsonl")
    assert refused(plan_file, text)[0].startswith("3: models.0.calibration: cannot read")
    (plan_file.parent / "calibration.jsonl").write_text("\n")
    assert refused(plan_file, text)[0].startswith("3: models.0.calibration: ")
    (plan_file.parent / "calibration.jsonl").write_text('{"prompt": "x"}\n')
    load_plan(str(plan_file))


def test_all_problems_are_named_at_once(plan_file: Path) -> None:
    assert [line[0] for line in refused(plan_file, GOOD.replace("port: 8000", "port: 11434").replace("prompts.jsonl", "gone.jsonl"))] == [
        "4",
        "6",
    ]


def test_a_pasted_plan_is_checked_in_the_folder_one_stands_in(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plan_file.parent)
    assert load_plan(GOOD).plan.parity.suite == plan_file.parent / "prompts.jsonl"
    with pytest.raises(PlanInvalid, match=r"^pasted plan:6: parity\.suite: cannot read"):
        load_plan(GOOD.replace("prompts", "gone"))


def test_a_stored_plan_is_read_back_although_its_suite_is_gone(tmp_path: Path) -> None:
    assert parse_plan(GOOD.replace("prompts", "gone"), origin="plan of chat/lab", folder=tmp_path).plan.name == "chat"


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ("error_rate: {at_most: 0%}", "8: gates.error_rate.at_most: no number of requests proves 0%"),
        ("error_rate: {at_most: 40%}", "8: gates.error_rate.at_most: 40% is not below judge.hard_error_share, 30%"),
        ("error_rate: {no_worse_than_source: 1x}", "8: gates.error_rate.no_worse_than_source: 1x leaves no room"),
        ("ttft_p95: {at_most: 0}", "8: gates.ttft_p95.at_most: 0 is faster than anything"),
        ("ttft_p120: {at_most: 1s}", "8: gates.ttft_p120: 'ttft_p120' is not a latency gate: no percentile 120"),
        ("kv: {promql: x, below: .nan}", "8: gates.kv.below: nan is no limit"),
        ("{ttft_p50: {at_most: 2s}, ttft_p95: {at_most: 1s}}", "8: gates.ttft_p50.at_most: 2s contradicts ttft_p95"),
        ("{ttft_p95: {at_most: 9s}, duration_p95: {at_most: 8s}}", "8: gates.ttft_p95.at_most: 9s contradicts duration_p95"),
    ],
)
def test_limits_that_nothing_can_prove_or_that_contradict_each_other_are_refused(plan_file: Path, gates: str, said: str) -> None:
    (line,) = refused(plan_file, f"{GOOD}gates:\n  {gates}\n")
    assert line.startswith(said)


def test_a_blip_shorter_than_an_interval_is_refused(plan_file: Path) -> None:
    assert refused(plan_file, f"{GOOD}judge: {{blip: 5s}}\n")[0].startswith("7: judge.blip: is shorter than judge.interval")
