"""Key, parsers and the one repair of a failed start: what a start is made of besides memory and names."""

import hashlib
import json
from dataclasses import replace

import pytest
from test_command import SPEC

from crossfade.errors import UserError
from crossfade.vllm.key import read_key
from crossfade.vllm.mending import mended
from crossfade.vllm.signatures import Category
from crossfade.vllm.weights_on_disk import parsers_of

TOOLS = "{%- if tools %}{% endif %}"


@pytest.fixture
def weights(tmp_path):
    def make(repo, model_type, *, template="", inside_tokenizer=False, base=None):
        files = {"config.json": json.dumps({"model_type": model_type})}
        if inside_tokenizer:
            files["tokenizer_config.json"] = json.dumps({"chat_template": template})
        elif template:
            files["chat_template.jinja"] = template
        listed = []
        for name, text in files.items():
            (tmp_path / name).write_text(text)
            listed.append({"path": name, "bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()})
        manifest = {"repo": repo, "commit": "c", "made_by": "test", "files": listed, "base": base}
        (tmp_path / "weights.json").write_text(json.dumps(manifest))
        return tmp_path

    return make


@pytest.mark.parametrize("inside_tokenizer", [False, True])
def test_parsers_come_from_the_weights_and_their_own_template(weights, inside_tokenizer):
    folder = weights("Qwen/Qwen2.5-7B-Instruct", "qwen2", template=TOOLS, inside_tokenizer=inside_tokenizer)
    assert parsers_of(folder, None).tool == "hermes"


def test_quantized_weights_are_of_the_family_of_their_base(weights):
    folder = weights("local/quantized", "llama", template=TOOLS, base="meta-llama/Llama-3.1-8B-Instruct@abc")
    assert parsers_of(folder, None).tool == "llama3_json"


def test_a_template_of_the_user_goes_before_the_repositorys(weights, tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages }}")
    folder = weights("Qwen/Qwen2.5-7B-Instruct", "qwen2", template=TOOLS)
    assert parsers_of(folder, own).tool == ""
    with pytest.raises(UserError, match=r"gone\.jinja.*target\.vllm\.chat_template"):
        parsers_of(folder, tmp_path / "gone.jinja")


def test_weights_without_a_template_get_no_parser(weights):
    assert parsers_of(weights("Qwen/Qwen2.5-7B", "qwen2"), None).tool == ""


def test_a_key_is_read_without_the_end_of_its_line(tmp_path):
    file = tmp_path / "key"
    file.write_text("sk-1234\n")
    file.chmod(0o600)
    assert read_key(file) == "sk-1234"
    assert read_key(None) == ""


@pytest.mark.parametrize(
    ("text", "mode", "said"), [("", 0o600, "one key"), ("sk-a sk-b", 0o600, "one key"), ("sk-secret", 0o644, "chmod 600")]
)
def test_a_key_that_is_none_or_lies_open_is_refused_and_not_shown(tmp_path, text, mode, said):
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UserError, match=said) as caught:
        read_key(file)
    assert "sk-" not in str(caught.value)


def test_a_key_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.*No such file.*target\.vllm\.api_key_file"):
        read_key(tmp_path / "gone")


def test_a_gpu_without_bfloat16_is_started_once_more_with_float16_and_nothing_else_is_changed():
    changed = mended(SPEC, Category.GPU_TOO_OLD)
    assert changed.spec == replace(SPEC, dtype="float16")
    assert mended(changed.spec, Category.GPU_TOO_OLD) is None
    assert mended(SPEC, Category.NO_KV_ROOM) is None
