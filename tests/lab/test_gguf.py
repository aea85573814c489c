import shutil

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from stand_in import MODEL_FOLDER

from crossfade.errors import QuantizeFailed, WeightsInvalid
from crossfade.lab.ggml_quantize import quantize_rows
from crossfade.lab.gguf import write_gguf

SCHEMES = ("F16", "Q8_0", "Q4_K_M")


def types_in(path):
    return {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(("scheme", "kind"), [("F16", Type.F16), ("Q8_0", Type.Q8_0)])
def test_all_matrices_are_stored_as_the_scheme_says_and_norms_stay_exact(tmp_path, scheme, kind):
    stored = types_in(write_gguf(MODEL_FOLDER, tmp_path / "m.gguf", scheme))
    assert {stored_as for name, stored_as in stored.items() if "norm" not in name} == {kind}
    assert {stored_as for name, stored_as in stored.items() if "norm" in name} == {Type.F32}


def test_q4_k_m_mixes_types_as_llama_cpp_does(tmp_path):
    stored = types_in(write_gguf(MODEL_FOLDER, tmp_path / "m.gguf", "Q4_K_M"))
    assert stored["token_embd.weight"] is Type.Q6_K
    assert stored["blk.2.attn_v.weight"] is stored["blk.2.ffn_down.weight"] is Type.Q6_K
    assert stored["blk.0.attn_q.weight"] is stored["blk.0.attn_v.weight"] is stored["blk.2.ffn_up.weight"] is Type.Q4_K


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    first = write_gguf(MODEL_FOLDER, tmp_path / "a.gguf", "Q4_K_M").read_bytes()
    assert write_gguf(MODEL_FOLDER, tmp_path / "b.gguf", "Q4_K_M").read_bytes() == first


def test_fewer_bits_make_a_smaller_file(tmp_path):
    sizes = [write_gguf(MODEL_FOLDER, tmp_path / f"{scheme}.gguf", scheme).stat().st_size for scheme in SCHEMES]
    assert sizes == sorted(sizes, reverse=True)


def test_a_file_that_is_there_is_left_alone(tmp_path):
    there = tmp_path / "m.gguf"
    there.write_text("mine")
    assert write_gguf(MODEL_FOLDER, there, "F16").read_text() == "mine"


def test_six_bits_come_close_to_the_numbers():
    numbers = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    again = gguf.dequantize(quantize_rows(numbers, Type.Q6_K), Type.Q6_K)
    assert np.abs(again - numbers).max() < 0.1


def test_rows_that_are_no_whole_blocks_are_refused():
    with pytest.raises(QuantizeFailed, match="multiples of 256"):
        quantize_rows(np.zeros((1, 100), dtype=np.float32), Type.Q4_K)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_folder_without_a_needed_file_is_refused_by_name(tmp_path, missing):
    folder = shutil.copytree(MODEL_FOLDER, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(WeightsInvalid, match=missing):
        write_gguf(folder, tmp_path / "m.gguf", "F16")


def test_cut_weights_are_refused_and_leave_nothing_behind(tmp_path):
    folder = shutil.copytree(MODEL_FOLDER, tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(WeightsInvalid, match="cut short"):
        write_gguf(folder, tmp_path / "out" / "m.gguf", "Q4_K_M")
    assert list((tmp_path / "out").iterdir()) == []


def test_another_architecture_is_refused(tmp_path):
    folder = shutil.copytree(MODEL_FOLDER, tmp_path / "model")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"model_type": "llama"', '"model_type": "qwen3"'))
    with pytest.raises(WeightsInvalid, match="model_type"):
        write_gguf(folder, tmp_path / "m.gguf", "F16")
