"""Every published figure about memory, made again by the arithmetic the sizing uses."""

import json
import struct
from pathlib import Path

import published_configs as published
import pytest

from crossfade.assess.architecture import read_architecture
from crossfade.assess.budget import Overhead, cache_room, chunk_tokens, overhead, utilization
from crossfade.assess.kv_cache import longest_that_fits, sequence_bytes, start_bytes, token_bytes
from crossfade.assess.load import Load
from crossfade.assess.sizing import full_length_concurrency
from crossfade.assess.source_memory import GgufShape, SourceMemory, default_context, predicted_bytes, would_load
from crossfade.assess.tensors import count_header, count_index
from crossfade.errors import WeightsInvalid

GIB, KIB = 2**30, 2**10
LAB = Path(__file__).parents[2] / "deployments" / "lab-model"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (published.LLAMA_31_8B, 128 * KIB),
        (published.LLAMA_31_70B, 320 * KIB),
        (published.LLAMA_2_7B, 512 * KIB),
        (published.QWEN_25_7B, 56 * KIB),
        (published.QWEN_25_14B, 192 * KIB),
        (published.QWEN_25_32B, 256 * KIB),
        (published.QWEN3_8B, 147_456),
        (published.QWEN3_30B_A3B, 48 * 4 * 128 * 2 * 2),
        (published.QWEN3_NEXT_80B, 12 * 2 * 256 * 2 * 2),
        (published.MIXTRAL_8X7B, 128 * KIB),
        (published.GEMMA_2_9B, 42 * 8 * 256 * 2 * 2),
        (published.GEMMA_3_4B, 34 * 4 * 256 * 2 * 2),
        (published.PHI_4, 40 * 10 * 128 * 2 * 2),
        (published.DEEPSEEK_V2_LITE, 27 * 576 * 2),
        (published.DEEPSEEK_V3, 70_272),
        (published.GPT_OSS_20B, 24 * 8 * 64 * 2 * 2),
        (published.FALCON_7B, 32 * 1 * 64 * 2 * 2),
        (published.FALCON_40B, 60 * 8 * 64 * 2 * 2),
        (published.NEMOTRON_NANO_9B_V2, 4 * 8 * 128 * 2 * 2),
    ],
)
def test_the_cache_of_one_token_is_what_is_published(config, expected):
    model = read_architecture(config)
    assert token_bytes(model) == expected
    if not any(group.kind == "latent" and group.fixed_bytes for group in model.groups):
        assert token_bytes(model, element_bytes=1) == expected // 2


def test_gpus_share_heads_repeat_them_when_there_are_too_few_and_each_keep_latent_vectors_whole():
    llama, falcon, deepseek = (read_architecture(each) for each in (published.LLAMA_31_8B, published.FALCON_7B, published.DEEPSEEK_V3))
    assert [token_bytes(llama, tensor_parallel=size) // KIB for size in (1, 2, 4, 8, 16)] == [128, 64, 32, 16, 16]
    assert token_bytes(falcon, tensor_parallel=4) == token_bytes(falcon)
    assert token_bytes(deepseek, tensor_parallel=8) == 70_272


def kinds(config):
    return {group.kind: group.layers for group in read_architecture(config).groups}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (published.MISTRAL_7B_V01, {"window": 32}),
        (published.MISTRAL_7B_V03, {"full": 32}),
        (published.QWEN_25_7B, {"full": 28}),
        (published.QWEN_25_7B | {"use_sliding_window": True, "max_window_layers": 21}, {"full": 21, "window": 7}),
        (published.GEMMA_2_9B, {"full": 21, "window": 21}),
        (published.GEMMA_3_4B, {"full": 5, "window": 29}),
        (published.GEMMA_3_27B, {"full": 10, "window": 52}),
        (published.GPT_OSS_20B, {"full": 12, "window": 12}),
        (published.PHI_3_MINI_4K, {"window": 32}),
        (published.QWEN3_NEXT_80B, {"full": 12, "state": 36}),
        (published.NEMOTRON_NANO_9B_V2, {"full": 4, "state": 27}),
        (published.DEEPSEEK_V3, {"latent": 61}),
        (published.LLAMA_31_8B | {"layer_types": ["mystery"] * 32}, {"full": 32}),
        (published.LLAMA_31_8B | {"num_kv_shared_layers": 12}, {"full": 20}),
        (published.LLAMA_31_8B | {"attn_layer_period": 8, "attn_layer_offset": 4, "mamba_d_state": 16}, {"full": 4, "state": 28}),
    ],
)
def test_what_each_layer_remembers_is_read_from_every_way_of_writing_it(config, expected):
    assert kinds(config) == expected


def test_a_layer_nobody_knows_is_told_as_an_upper_bound():
    assert "mystery" in read_architecture(published.LLAMA_31_8B | {"layer_types": ["mystery"] * 32}).notes[0]
    assert read_architecture(published.LLAMA_31_8B).notes == ()


def test_a_window_stops_growing_and_a_state_never_does():
    mistral, gpt_oss = read_architecture(published.MISTRAL_7B_V01), read_architecture(published.GPT_OSS_20B)
    assert sequence_bytes(mistral, 4096) == 4096 * 128 * KIB
    assert sequence_bytes(mistral, 32_768) == sequence_bytes(mistral, 20_000) == (4096 + 16) * 128 * KIB
    layer_token = 8 * 64 * 2 * 2
    assert sequence_bytes(gpt_oss, 131_072) == 12 * (131_072 + 128 + 16) * layer_token
    # vLLM starts only when the window and the piece of prompt being read fit
    assert start_bytes(gpt_oss, 131_072, chunk=2048) == 12 * (131_072 + 2176 + 16) * layer_token
    nemotron = read_architecture(published.NEMOTRON_NANO_9B_V2)
    state = 3 * (128 * 80 + 2 * 8 * 128) * 2 + 128 * 80 * 128 * 2
    assert sequence_bytes(nemotron, 16) == 28 * state + 4 * 16 * 4096  # 27 layers fill groups of 4
    qwen = read_architecture(published.QWEN3_NEXT_80B)
    assert sequence_bytes(qwen, 0) == 36 * (3 * (2 * 2048 + 4096) * 2 + 32 * 128 * 128 * 2)


def test_the_longest_that_fits_is_the_last_block_that_does():
    model = read_architecture(published.LLAMA_31_8B)
    room = start_bytes(model, 10_000, chunk=2048)
    assert longest_that_fits(model, room, 131_072, chunk=2048) == 10_000
    assert longest_that_fits(model, room - 1, 131_072, chunk=2048) == 9_984
    assert longest_that_fits(model, 10, 131_072, chunk=2048) == 0


def test_a_configuration_that_says_too_little_is_refused_by_name():
    with pytest.raises(WeightsInvalid, match="does not say num_hidden_layers"):
        read_architecture({"model_type": "odd", "hidden_size": 64})


def lab_header():
    with (LAB / "model.safetensors").open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        return json.loads(source.read(length)), 8 + length


@pytest.mark.parametrize(("scheme", "measured"), [("fp8", 2_052_944), ("w8a8", 2_052_840), ("gptq", 1_186_032), ("awq", 1_195_296)])
def test_quantized_bytes_are_those_llm_compressor_wrote(scheme, measured):
    """Measured files carry a header of 5 to 10 KB, which grows with the number of tensors."""
    header, _ = lab_header()
    assert 5_000 < measured - count_header([header]).bytes_as(scheme) < 10_000


def test_weight_bytes_are_exact_by_header_and_near_by_index():
    header, header_bytes = lab_header()
    census = count_header([header])
    assert census.bytes_as("none") == (LAB / "model.safetensors").stat().st_size - header_bytes
    rough = count_index(census.total_bytes, read_architecture(json.loads((LAB / "config.json").read_text())))
    assert census.exact and not rough.exact
    for scheme in ("fp8", "awq"):
        assert rough.bytes_as(scheme) == pytest.approx(census.bytes_as(scheme), rel=0.02)


def test_four_bits_are_the_published_number_of_bits():
    census = count_index(16_060_522_496, read_architecture(published.LLAMA_31_8B))
    for scheme in ("awq", "gptq"):
        packed = census.bytes_as(scheme) - (census.total_bytes - census.linear_bytes)
        assert 4.1 <= 8 * packed / census.linear_elements <= 4.6
    assert 0.35 < census.bytes_as("awq") / census.total_bytes < 0.42


def test_a_header_of_an_unknown_form_is_refused():
    with pytest.raises(WeightsInvalid, match="'w' in no known form"):
        count_header([{"w": {"dtype": "Q9", "shape": [1]}}])


def test_the_line_of_a_real_server_is_made_again():
    """79.19 x 0.90 = 71.27 GiB = weights 12.55 + activations 2.38 + other 0.16 + cache 56.18."""
    needs = Overhead(activations=int(2.38 * GIB), graphs=0, other=int(0.16 * GIB))
    room = cache_room(int(79.19 * GIB), 0.90, int(12.55 * GIB), needs)
    assert room / GIB == pytest.approx(56.18, abs=0.01)
    assert full_length_concurrency(613_024, 131_072) == pytest.approx(4.68, abs=0.005)


def test_the_share_beside_the_source_is_what_is_free_less_a_spare():
    assert utilization(24 * GIB, 18 * GIB) == 0.70
    assert utilization(24 * GIB, 24 * GIB) == 0.92
    assert utilization(24 * GIB, GIB // 2) == 0


def test_an_8b_model_leaves_about_5_gib_on_an_empty_card_of_24():
    model = read_architecture(published.LLAMA_31_8B)
    weights = 16_060_522_496
    needs = overhead(model, weight_bytes=weights, tensor_parallel=1, chunk=chunk_tokens(24 * GIB), sequences=64)
    room = cache_room(24 * GIB, utilization(24 * GIB, 24 * GIB), weights, needs)
    assert room / GIB == pytest.approx(5, rel=0.1)
    assert room // token_bytes(model) == pytest.approx(41_000, rel=0.1)


def test_overheads_stay_within_what_was_seen():
    for config, weights in ((published.LLAMA_31_8B, 15 * GIB), (published.LLAMA_31_70B, 132 * GIB), (published.GEMMA_2_9B, 18 * GIB)):
        needs = overhead(read_architecture(config), weight_bytes=weights, tensor_parallel=1, chunk=8192, sequences=256)
        assert GIB <= needs.activations <= 3 * GIB
        assert GIB // 2 <= needs.graphs <= 2 * GIB


def test_littles_law_with_its_margin():
    load = Load(prompt_tokens=1500, output_tokens=400, requests_per_s=2, seconds=8)
    assert load.concurrency == 16
    assert load.needed_tokens == 39_520 == round(16 * 1900 * 1.3)
    assert Load(1, 1, requests_per_s=0.1, seconds=1).concurrency == 1
    assert Load(1, 1, requests_per_s=9, seconds=9, at_once=3).concurrency == 3


def test_ollama_predicts_too_little_where_a_model_says_its_head_width_itself():
    qwen3_4b = read_architecture(published.QWEN3_4B)
    shape = GgufShape(file_bytes=0, layers=36, heads=32, kv_heads=8, embedding=2560)
    predicted = predicted_bytes(shape, context=4096)
    real = 4096 * token_bytes(qwen3_4b)
    assert 1 - predicted / real == pytest.approx(0.37, abs=0.01)


def test_ollama_reserves_the_context_for_every_slot_and_adds_for_large_batches():
    shape = GgufShape(file_bytes=5 * GIB, layers=32, heads=32, kv_heads=8, embedding=4096)
    one = predicted_bytes(shape, context=8192)
    assert one == 5 * GIB + 8192 * 128 * KIB
    assert predicted_bytes(shape, context=8192, parallel=4) - 5 * GIB == 4 * (one - 5 * GIB)
    assert predicted_bytes(shape, context=8192, batch=1024) - one == 768 * 2**20
    assert predicted_bytes(shape, context=8192, batch=2048) - one == 2 * GIB
    assert would_load(8 * GIB, 10 * GIB) and not would_load(8 * GIB + 1, 10 * GIB)
    assert SourceMemory(expected_bytes=6, resident_bytes=4).still_to_come_bytes == 2


def test_an_idle_model_gets_the_context_ollama_chooses_by_memory_and_not_the_one_it_was_made_for():
    assert [default_context(gib * GIB, 131_072) for gib in (0, 16, 24, 48, 80)] == [4096, 4096, 32_768, 131_072, 131_072]
    assert default_context(80 * GIB, None) == 262_144
