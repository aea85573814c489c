"""Which weights `quantize: auto` ends at, and why."""

from dataclasses import replace

import published_configs as published
import pytest

from crossfade.assess.architecture import read_architecture
from crossfade.assess.fit import Question
from crossfade.assess.gpus import Gpu
from crossfade.assess.load import Load
from crossfade.assess.sizing import Sizing, size
from crossfade.assess.storage import Offer, choose_storage, stored_bits
from crossfade.assess.tensors import WeightCensus, count_index

GIB = 2**30
MODEL = read_architecture(published.LLAMA_31_8B)
QUESTION = Question(MODEL, count_index(16_060_522_496, MODEL), (Gpu("L4", 1, 24 * GIB, 6 * GIB, 8.9),), Load(1500, 400, 2, 8, 7000))


def offer(repo, method, bits, size_bytes=8 * GIB, **quantization):
    config = published.LLAMA_31_8B | {"quantization_config": {"quant_method": method} | quantization}
    return Offer(repo, "c0ffee" * 6, method, bits, WeightCensus(size_bytes, 0, 0, 0, 0, 0), config, size_bytes)


def chosen(*offers, question=QUESTION):
    sized = size(question)
    assert isinstance(sized, Sizing)
    return choose_storage(question, sized, offers)


def test_full_precision_that_fits_is_taken_whatever_is_published():
    roomy = replace(QUESTION, gpus=(Gpu("A100", 1, 80 * GIB, 0, 8.0),))
    found = chosen(offer("meta/fp8", "fp8", 8), question=roomy)
    assert (found.scheme, found.offer, found.why) == ("none", None, "full precision fits, so nothing is quantized")
    assert "no GPU is known" in chosen(question=replace(QUESTION, gpus=())).why


def test_a_published_quantization_with_as_many_bits_is_preferred_to_making_one():
    found = chosen(offer("meta/8B-FP8", "compressed-tensors", 8))
    assert found.scheme == "none"
    assert found.offer is not None and found.offer.repo == "meta/8B-FP8"
    assert "meta/8B-FP8 publishes the same model in 8 bits" in found.why
    assert found.sizing.weight_bytes == 8 * GIB


def test_fewer_bits_than_fit_are_not_taken_only_because_somebody_published_them():
    found = chosen(offer("meta/8B-AWQ", "awq", 4, 5 * GIB))
    assert (found.scheme, found.offer) == ("fp8", None)
    assert "4 bits, and 8 fit" in found.considered[0].why
    assert "none of 1 published quantizations will do" in found.why


def test_more_bits_come_first_and_among_equals_the_publisher_named_first():
    first, second = offer("meta/8B-INT8", "compressed-tensors", 8), offer("trusted/8B-FP8", "fp8", 8)
    assert chosen(offer("meta/8B-AWQ", "awq", 4), first, second).offer == first


def test_one_that_does_not_fit_is_passed_over_with_the_numbers():
    found = chosen(offer("meta/8B-FP8", "fp8", 8, 30 * GIB))
    assert (found.scheme, found.offer) == ("fp8", None)
    assert "GiB more on each GPU" in found.considered[0].why


def test_a_method_vllm_is_not_known_to_serve_is_passed_over():
    assert "method magic" in chosen(offer("meta/8B-magic", "magic", 8)).considered[0].why


def test_nothing_published_means_making_it_and_says_so():
    assert chosen().why == "full precision does not fit, no published quantization was found; fp8 is made here"


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        ({"quant_method": "awq", "bits": 4}, 4),
        ({"quant_method": "gptq", "bits": 8}, 8),
        ({"quant_method": "fp8"}, 8),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8}}, "b": {"weights": {"num_bits": 4}}}},
            4,
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4),
        ({"quant_method": "compressed-tensors"}, 0),
        ({"quant_method": "magic"}, 0),
    ],
)
def test_bits_are_read_from_every_way_of_writing_them(quantization, bits):
    assert stored_bits(quantization) == bits
