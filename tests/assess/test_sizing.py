"""The choice and its reasons; and when nothing fits, changes that really make it fit."""

from dataclasses import replace

import published_configs as published
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.assess.architecture import read_architecture
from crossfade.assess.fit import Fit, Question, Wishes, best_fit
from crossfade.assess.gpus import Gpu, teams
from crossfade.assess.load import Load
from crossfade.assess.schemes import parallel_refusal
from crossfade.assess.sizing import DoesNotFit, Sizing, size
from crossfade.assess.source_memory import SourceMemory
from crossfade.assess.tensors import count_index

GIB = 2**30
CARD = Gpu("RTX 4090", 1, 24 * GIB, 0, 8.9)
LOAD = Load(1500, 400, requests_per_s=2, seconds=8, longest_tokens=7000)
WEIGHTS = {"LLAMA_31_8B": 16_060_522_496, "LLAMA_31_70B": 141_107_412_992, "QWEN_25_72B": 145_412_407_296}


def question(name="LLAMA_31_8B", gpus=(CARD,), load=LOAD, **more):
    model = read_architecture(getattr(published, name))
    return Question(model, count_index(WEIGHTS[name], model), tuple(gpus), load, **more)


def shown(sizing):
    return {row.what: row.value for row in sizing.rows}


def test_alone_on_the_card_full_precision_fits_and_vllm_takes_its_share():
    found = size(question())
    assert isinstance(found, Sizing)
    assert (found.scheme, found.tensor_parallel_size, found.devices, found.max_model_len) == ("none", 1, (0,), 7168)
    assert (found.gpu_memory_utilization, found.kv_cache_bytes) == (0.92, None)
    assert shown(found)["tokens to hold"] == "39,520"


def test_beside_the_source_the_same_card_needs_quantized_weights_and_an_exact_cache():
    found = size(question(gpus=[replace(CARD, used_bytes=6 * GIB)]))
    assert isinstance(found, Sizing)
    assert (found.scheme, found.gpu_memory_utilization) == ("fp8", 0.70)
    assert found.kv_cache_bytes is not None and 0 <= found.room_bytes - found.kv_cache_bytes < 2**20


def test_memory_the_source_will_take_again_is_left_to_it():
    asleep = question(source=SourceMemory(expected_bytes=6 * GIB))
    awake = question(gpus=[replace(CARD, used_bytes=6 * GIB)], source=SourceMemory(6 * GIB, 6 * GIB))
    assert replace(size(asleep), rows=()) == replace(size(awake), rows=())
    assert shown(size(asleep))["the source's memory"] == "6.00 GiB"


def test_the_card_without_the_source_is_taken_though_it_is_the_second():
    found = size(question(gpus=[replace(CARD, used_bytes=20 * GIB), CARD]))
    assert isinstance(found, Sizing)
    assert (found.devices, found.scheme, found.kv_cache_bytes) == ((1,), "none", None)


def test_the_fewest_gpus_that_suffice_share_a_large_model():
    found = size(question("LLAMA_31_70B", [Gpu("H100", 8, 80 * GIB, 0, 9.0)]))
    assert isinstance(found, Sizing)
    assert (found.scheme, found.tensor_parallel_size) == ("none", 4)  # 2 leave too little, 3 cannot share 64 heads
    assert size(question("LLAMA_31_70B", [Gpu("H100", 2, 80 * GIB, 0, 9.0)])).scheme == "fp8"


@pytest.mark.parametrize(("capability", "scheme"), [(7.5, "w8a8"), (8.6, "w8a8"), (8.9, "fp8"), (9.0, "fp8"), (12.0, "fp8"), (None, "fp8")])
def test_eight_bits_come_in_the_form_the_gpu_multiplies_itself(capability, scheme):
    found = size(question(gpus=[replace(CARD, used_bytes=6 * GIB, capability=capability)]))
    assert isinstance(found, Sizing) and found.scheme == scheme


@pytest.mark.parametrize(
    ("scheme", "capability", "said"),
    [
        ("w8a8", 12.0, "no kernels for scheme w8a8"),
        ("awq", 7.0, "needs compute capability 7.5"),
        ("fp8", 6.1, "needs compute capability 7.5"),
    ],
)
def test_a_scheme_the_gpu_cannot_compute_is_refused_by_name(scheme, capability, said):
    found = size(question(gpus=[replace(CARD, capability=capability)], wishes=Wishes(scheme=scheme)))
    assert isinstance(found, DoesNotFit) and said in found.reason


def test_groups_of_four_bit_weights_must_survive_the_cut():
    """Qwen2.5-72B in GPTQ on 8 GPUs, a known trap: 29568 / 8 is no multiple of 128."""
    model = read_architecture(published.QWEN_25_72B)
    assert "29568 / 8" in parallel_refusal("gptq", model, 8)
    assert parallel_refusal("fp8", model, 8) == ""
    assert "64 heads" in parallel_refusal("none", model, 3)


def test_published_quantizations_stay_as_they_are():
    model = read_architecture(published.GPT_OSS_20B)
    found = size(Question(model, count_index(13_761_300_984, model), (CARD,), LOAD, Wishes(scheme="awq")))
    assert isinstance(found, Sizing) and found.scheme == "none"
    assert "published as mxfp4" in next(row.because for row in found.rows if row.what == "scheme")


def test_the_longest_request_comes_from_the_plan_then_traffic_then_the_source_then_the_model():
    assert size(question(wishes=Wishes(max_model_len=5000))).max_model_len == 5000
    assert size(question()).max_model_len == 7168
    unknown = replace(LOAD, longest_tokens=None)
    assert size(question(load=unknown, source_context=8192)).max_model_len == 8192
    free = size(question(load=unknown))
    assert isinstance(free, Sizing) and 30_000 < free.max_model_len < 131_072  # shortened to what the cache holds
    assert "131,072 wanted" in next(row.because for row in free.rows if row.what == "max_model_len")


def test_what_users_have_at_the_source_is_not_shortened_silently():
    found = size(question(load=None, source_context=65_536, wishes=Wishes(scheme="none")))
    assert isinstance(found, DoesNotFit) and "one request of the longest kind" in found.reason
    assert found.ways_out[0].change.startswith("max_model_len: ")


def test_without_gpus_only_the_need_is_computed():
    found = size(question(gpus=()))
    assert isinstance(found, Sizing)
    assert (found.gpu_memory_utilization, found.devices, found.scheme) == (None, (), "none")
    assert found.kv_cache_bytes >= 39_520 * 131_072


def test_a_cache_fixed_in_the_plan_must_hold_the_load():
    assert size(question(wishes=Wishes(kv_cache_bytes=5 * GIB))).kv_cache_bytes == 5 * GIB
    assert isinstance(size(question(wishes=Wishes(scheme="none", kv_cache_bytes=4 * GIB))), DoesNotFit)


def test_an_unfit_model_comes_with_three_ways_out_that_work_cheapest_first():
    asked = question(gpus=[replace(CARD, used_bytes=6 * GIB)], wishes=Wishes(scheme="none"))
    found = size(asked)
    assert isinstance(found, DoesNotFit)
    assert [way.change for way in found.ways_out] == [
        "quantize: fp8",
        "add 1 x RTX 4090 that nobody else uses",
        "a GPU of 32 GiB for the target alone",
    ]
    assert all("GiB" in way.numbers and way.price for way in found.ways_out)
    assert isinstance(best_fit(replace(asked, wishes=Wishes(scheme="fp8"))), Fit)
    assert isinstance(best_fit(replace(asked, gpus=(*asked.gpus, CARD))), Fit)
    assert isinstance(best_fit(replace(asked, gpus=(Gpu("bigger", 1, 32 * GIB, 0, 8.9),))), Fit)
    assert isinstance(best_fit(replace(asked, gpus=(Gpu("24", 1, 24 * GIB, 2 * GIB, 8.9),))), type(best_fit(asked)))


def test_too_many_at_once_may_wait_in_line():
    found = size(question(load=replace(LOAD, requests_per_s=20), wishes=Wishes(scheme="none")))
    assert isinstance(found, DoesNotFit)
    queue = next(way for way in found.ways_out if "requests at once" in way.change)
    fitting = int(queue.change.split()[2])
    asked = question(wishes=Wishes(scheme="none"))
    assert isinstance(best_fit(replace(asked, load=replace(LOAD, at_once=fitting))), Fit)
    assert not isinstance(best_fit(replace(asked, load=replace(LOAD, at_once=fitting + 1))), Fit)


def test_a_hopeless_case_ends_at_the_source():
    found = size(question("LLAMA_31_70B", [replace(CARD, total_bytes=4 * GIB)], wishes=Wishes(scheme="none")))
    assert isinstance(found, DoesNotFit)
    assert found.ways_out[-1].change == "leave this model on the source"


def test_only_gpus_of_one_kind_make_a_team():
    mixed = [CARD, Gpu("A100", 1, 40 * GIB, 0, 8.0)]
    assert teams(mixed, 2) == ()
    assert [team[0].gpu.name for team in teams(mixed, 1)] == ["A100", "RTX 4090"]
    found = size(question(gpus=mixed, wishes=Wishes(tensor_parallel=2)))
    assert isinstance(found, DoesNotFit) and "2 GPUs of one kind" in found.reason


@given(
    total=st.integers(8, 200),
    used=st.integers(0, 100),
    count=st.integers(1, 8),
    rate=st.floats(0.01, 50),
    capability=st.sampled_from([None, 7.0, 7.5, 8.0, 8.9, 9.0, 12.0]),
    scheme=st.sampled_from(["auto", "none", "fp8", "w8a8", "awq", "gptq"]),
)
def test_whatever_is_chosen_adds_up(total, used, count, rate, capability, scheme):
    gpu = Gpu("some", count, total * GIB, min(used, total) * GIB, capability)
    asked = question(gpus=[gpu], load=replace(LOAD, requests_per_s=rate), wishes=Wishes(scheme=scheme))
    found = size(asked)
    if isinstance(found, DoesNotFit):
        assert 1 <= len(found.ways_out) <= 3 and found.reason
        return
    fit = best_fit(asked)
    assert isinstance(fit, Fit)
    assert int(found.gpu_memory_utilization * gpu.total_bytes) <= gpu.total_bytes - gpu.used_bytes - GIB
    assert fit.weight_bytes + fit.needs.bytes + fit.room <= found.gpu_memory_utilization * gpu.total_bytes + 1
    assert max(fit.load_bytes, fit.start_bytes) <= fit.room
    assert asked.model.heads % found.tensor_parallel_size == 0
    assert found.kv_cache_bytes is None or found.kv_cache_bytes <= fit.room


def test_a_smaller_cache_and_a_larger_chunk_that_the_plan_asks_for_are_counted_with():
    usual, smaller, wide = (
        best_fit(question(wishes=Wishes(scheme="fp8", **asked))) for asked in ({}, {"cache_dtype": "fp8"}, {"chunk_tokens": 32_768})
    )
    assert isinstance(usual, Fit)
    assert isinstance(smaller, Fit)
    assert isinstance(wide, Fit)
    assert smaller.load_bytes < 0.6 * usual.load_bytes
    assert wide.room < usual.room
