"""`crossfade weights show|verify` on real folders."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossfade.errors import UserError, WeightsInvalid
from crossfade.weights import WeightsManifest, hash_files, seal
from crossfade.weights_commands import weights_app

LAB = Path(__file__).parents[1] / "deployments" / "lab-model"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights" / "crossfade--lab" / ("a" * 40)
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(LAB / name, folder / name)
    seal(folder, WeightsManifest(repo="crossfade/lab", commit="a" * 40, made_by="a test", files=hash_files(folder, FILES)))
    return folder


def run(*arguments):
    return CliRunner().invoke(weights_app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_show_tells_where_weights_come_from_and_what_they_are(weights):
    result = run("show", weights)
    assert result.exit_code == 0, result.output
    assert "crossfade/lab at " + "a" * 40 in result.output
    assert "3,804,672 bytes of tensors, 3,538,944 of them in linear layers" in result.output
    assert "model.safetensors" in result.output and "3,807,792" in result.output


def test_verify_finds_good_weights_good_also_from_above(weights):
    result = run("verify", weights.parents[1])
    assert result.exit_code == 0, result.output
    assert "good" in result.output and "3 files" in result.output


def test_verify_names_the_file_that_changed_and_fails(weights):
    (weights / "config.json").write_text(json.dumps({"model_type": "other"}))
    result = run("verify", weights)
    assert isinstance(result.exception, WeightsInvalid)
    assert result.exception.exit_code == 1
    assert "broken" in result.output and "config.json is not the file that was checked in" in result.output.replace("\n", "")


def test_a_pickle_beside_the_weights_is_broken(weights):
    (weights / "pytorch_model.bin").write_bytes(b"\x80")
    result = run("verify", weights)
    assert isinstance(result.exception, WeightsInvalid) and "pytorch_model.bin does not belong" in result.output.replace("\n", "")


def test_a_folder_without_weights_says_what_to_name(tmp_path):
    result = run("show", tmp_path)
    assert isinstance(result.exception, UserError) and result.exception.exit_code == 2
