import json
from dataclasses import replace

import pytest

from crossfade.assess.shape import Mismatch, Shape, compared, mismatches, same_architecture, shape_from_config, shape_from_gguf

GGUF = {
    "general.architecture": "llama",
    "general.parameter_count": 1500000,
    "llama.block_count": 3,
    "llama.attention.head_count_kv": 2,
    "llama.vocab_size": 512,
    "llama.embedding_length": 256,
    "tokenizer.ggml.tokens": None,
}
CONFIG = json.loads(
    '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "num_attention_heads": 4,'
    ' "num_hidden_layers": 3, "num_key_value_heads": 2, "vocab_size": 512}'
)
LAB = Shape("llama", 3, 2, 512, 256)


def test_both_sides_of_the_lab_model_have_one_shape():
    assert shape_from_gguf(GGUF) == shape_from_config(CONFIG) == LAB
    assert mismatches(LAB, LAB) == ()
    assert compared(LAB, LAB) == ("architecture", "block_count", "head_count_kv", "vocab_size", "embedding_length")


@pytest.mark.parametrize("what", ["block_count", "head_count_kv", "vocab_size", "embedding_length"])
def test_a_number_that_differs_is_named_with_both_values(what):
    other = replace(LAB, **{what: 7})
    assert mismatches(LAB, other) == (Mismatch(what, str(getattr(LAB, what)), "7"),)


@pytest.mark.parametrize("what", ["architecture", "block_count", "head_count_kv", "vocab_size", "embedding_length"])
def test_a_value_one_side_does_not_give_is_not_compared(what):
    silent = replace(LAB, **{what: None})
    assert mismatches(LAB, silent) == mismatches(silent, LAB) == ()
    assert what not in compared(LAB, silent)


def test_lists_that_ollama_leaves_empty_or_gives_per_layer_are_no_numbers():
    assert shape_from_gguf({**GGUF, "llama.attention.head_count_kv": None}).head_count_kv is None
    assert shape_from_gguf({**GGUF, "llama.attention.head_count_kv": [2, 0, 2]}).head_count_kv is None
    assert shape_from_gguf({}) == Shape()


def test_the_vocabulary_is_counted_from_the_tokens_when_the_converter_wrote_no_size():
    bare = {key: value for key, value in GGUF.items() if key != "llama.vocab_size"}
    assert shape_from_gguf(bare).vocab_size is None
    assert shape_from_gguf({**bare, "tokenizer.ggml.tokens": ["a", "b"]}).vocab_size == 2


def test_a_model_that_also_sees_keeps_its_numbers_inside():
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34, "hidden_size": 2560}}
    assert shape_from_config(config) == Shape("gemma3", block_count=34, embedding_length=2560)


def test_latent_attention_has_no_comparable_head_count():
    info = {"general.architecture": "deepseek2", "deepseek2.attention.head_count_kv": 1, "deepseek2.attention.kv_lora_rank": 512}
    assert shape_from_gguf(info).head_count_kv is None


@pytest.mark.parametrize(
    ("left", "right", "same"), [(32000, 32064, True), (262144, 262208, True), (32000, 32002, False), (512, 640, False)]
)
def test_a_padded_vocabulary_is_the_same_and_added_tokens_are_not(left, right, same):
    assert (mismatches(Shape(vocab_size=left), Shape(vocab_size=right)) == ()) is same


@pytest.mark.parametrize(
    ("gguf", "model_type", "same"),
    [
        ("llama", "llama", True),
        ("llama", "mistral", True),
        ("gptoss", "gpt_oss", True),
        ("gpt-oss", "gpt_oss", True),
        ("command-r", "cohere", True),
        ("nomic-bert", "nomic_bert", True),
        ("newarch", "new_arch", True),
        ("llama", "qwen2", False),
        ("qwen2", "qwen3", False),
        ("newarch", "other", False),
    ],
)
def test_architectures_are_matched_across_both_spellings(gguf, model_type, same):
    assert same_architecture(gguf, model_type) is same
