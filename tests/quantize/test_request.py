import shutil

import pytest
from pydantic import ValidationError

from crossfade.errors import UserError, WeightsInvalid
from crossfade.parity.cases import load_suite
from crossfade.quantize.backend import BACKENDS, backend_for
from crossfade.quantize.drift import HELD_OUT
from crossfade.quantize.request import DEFAULT_PROMPTS, QuantizeRequest, output_folder


@pytest.fixture
def request_of(lab_weights, tmp_path):
    def make(scheme, **more):
        return QuantizeRequest(weights=str(lab_weights), out_root=str(tmp_path), scheme=scheme, **more)

    return make


def test_scheme_none_is_the_source_itself(request_of, lab_weights):
    assert output_folder(request_of("none")) == lab_weights


def test_the_folder_is_named_by_repository_commit_and_scheme(request_of, tmp_path):
    folder = output_folder(request_of("w8a8"))
    assert folder.parent == tmp_path / "lab--tiny"
    assert folder.name.startswith("5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed-w8a8-")


def test_the_same_inputs_give_the_same_folder_wherever_the_source_lies(request_of, lab_weights, tmp_path):
    moved = shutil.copytree(lab_weights, tmp_path / "moved")
    assert output_folder(request_of("fp8")) == output_folder(request_of("fp8").model_copy(update={"weights": str(moved)}))


def test_whatever_decides_the_result_decides_the_folder(request_of, suite, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "hello"}\n')
    folders = [
        output_folder(request_of("fp8")),
        output_folder(request_of("w8a8")),
        output_folder(request_of("w8a8", calibration=str(suite))),
        output_folder(request_of("w8a8", calibration=str(other))),
        output_folder(request_of("w8a8", calibration=str(suite), samples=8)),
        output_folder(request_of("w8a8", calibration=str(suite), seed=1)),
    ]
    assert len(set(folders)) == len(folders)


def test_prompts_that_a_scheme_never_reads_do_not_change_its_folder(request_of, suite):
    assert output_folder(request_of("fp8", calibration=str(suite))) == output_folder(request_of("fp8"))


@pytest.mark.parametrize("scheme", ["awq", "gptq"])
def test_a_scheme_that_measures_takes_general_prompts_where_the_plan_names_none_and_says_so(request_of, scheme, suite):
    prompts, told = request_of(scheme).prompts()
    assert prompts == DEFAULT_PROMPTS
    assert "because the plan names none" in told
    assert output_folder(request_of(scheme)) != output_folder(request_of(scheme, calibration=str(suite)))


def test_what_was_calibrated_with_is_told_whatever_it_was(request_of, suite):
    assert "alone decide" in request_of("fp8", calibration=str(suite)).prompts()[1]
    assert str(suite) in request_of("w8a8", calibration=str(suite)).prompts()[1]
    assert "rounded to nearest" in request_of("w8a8").prompts()[1]


def test_nobody_is_compared_on_prompts_they_were_calibrated_with():
    calibration, held_out = (load_suite(path.read_text(), path.name) for path in (DEFAULT_PROMPTS, HELD_OUT))
    assert not {case.prompt for case in calibration} & {case.prompt for case in held_out}
    assert len(calibration) >= 30 and len(held_out) >= 16


def test_another_tool_makes_another_folder_and_only_what_it_can(request_of):
    assert output_folder(request_of("awq", tool="autoawq")) != output_folder(request_of("awq"))
    with pytest.raises(UserError, match="autoawq makes no fp8 weights; it makes awq"):
        output_folder(request_of("fp8", tool="autoawq"))


def test_an_undecided_scheme_is_never_guessed(request_of):
    with pytest.raises(UserError, match="auto"):
        output_folder(request_of("auto"))


def test_prompts_that_are_not_there_are_named(request_of):
    with pytest.raises(UserError, match=r"/nowhere/prompts\.jsonl cannot be read"):
        output_folder(request_of("gptq", calibration="/nowhere/prompts.jsonl"))


def test_a_source_without_manifest_is_refused(tmp_path):
    with pytest.raises(WeightsInvalid, match=r"weights\.json"):
        output_folder(QuantizeRequest(weights=str(tmp_path), out_root=str(tmp_path), scheme="fp8"))


def test_an_unknown_field_of_a_request_is_refused():
    with pytest.raises(ValidationError):
        QuantizeRequest.model_validate({"weights": "a", "out_root": "b", "scheme": "fp8", "smaples": 3})


def test_every_backend_has_its_worker_and_a_pinned_version():
    for tool, backend in BACKENDS.items():
        assert backend.worker.is_file()
        assert backend.version()[0].isdigit()
        assert all(backend_for(scheme, tool) is backend for scheme in backend.schemes)
