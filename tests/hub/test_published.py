"""Published quantizations on a hub that is really asked: the lab's, through the unmodified huggingface_hub."""

import json
from contextlib import ExitStack

import pytest

from crossfade.errors import Unreachable, WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.published import find_published
from crossfade.hub.repository import read_config, resolve
from crossfade.lab.hub_content import Faults, LabRepository
from crossfade.lab.hub_server import LabHub, running

BASE = "acme/llm-8b"
NETWORK = {"model_type": "llama", "num_hidden_layers": 3, "num_key_value_heads": 2, "vocab_size": 512, "hidden_size": 256}
AWQ = {"quant_method": "awq", "bits": 4}


def card(base=BASE, relation="quantized"):
    return f"---\nbase_model: {json.dumps(base)}\nbase_model_relation: {relation}\n---\n# made smaller\n".encode()


@pytest.fixture
def find(workshop):
    """Serve a base and other repositories; gives what the organisations named are found to offer."""

    def folder(config, readme, **files):
        content = {"config.json": json.dumps(config).encode(), "README.md": readme, **files}
        return workshop.folder(content)

    def search(others, organisations=("acme",), *, searchable=True, faults=None):
        served = [LabRepository(BASE, folder(NETWORK, b"# base"))]
        for name, (config, readme, *files) in others.items():
            served.append(LabRepository(name, folder(config, readme, **(files[0] if files else {})), (faults or {}).get(name, Faults())))
        with ExitStack() as stack:
            access = Access(stack.enter_context(running(LabHub(served, searchable=searchable))))
            base = resolve(BASE, "main", access)
            return find_published(base, read_config(base, access), organisations, access)

    return search


def test_a_quantization_by_the_same_organisation_is_offered_at_a_pinned_commit(find):
    found = find({"acme/llm-8b-AWQ": (NETWORK | {"quantization_config": AWQ}, card())})
    (offer,) = found.offers
    assert (offer.repo, offer.method, offer.bits) == ("acme/llm-8b-AWQ", "awq", 4)
    assert len(offer.commit) == 40
    assert offer.weights.total_bytes == 300_000
    assert found.passed_over == ()


def test_strangers_are_not_asked_unless_the_plan_trusts_them(find):
    others = {"stranger/llm-8b-AWQ": (NETWORK | {"quantization_config": AWQ}, card())}
    assert find(others).offers == ()
    assert [offer.repo for offer in find(others, ("acme", "stranger")).offers] == ["stranger/llm-8b-AWQ"]


def test_the_order_of_organisations_is_the_order_of_offers(find):
    config = NETWORK | {"quantization_config": AWQ}
    others = {"zebra/q": (config, card()), "acme/q": (config, card()), "beta/q": (config, card())}
    assert [offer.repo for offer in find(others, ("acme", "zebra", "beta")).offers] == ["acme/q", "zebra/q", "beta/q"]


@pytest.mark.parametrize(
    ("config", "readme", "files", "why"),
    [
        (NETWORK, card(), {}, "no quantization_config"),
        (NETWORK | {"quantization_config": {"quant_method": "awq"}}, card(), {}, "how many bits"),
        (NETWORK | {"quantization_config": AWQ}, card([BASE, "acme/other"]), {}, f"not {BASE} alone"),
        (NETWORK | {"quantization_config": AWQ, "num_hidden_layers": 4}, card(), {}, "another network: block_count is 4, not 3"),
        (NETWORK | {"quantization_config": AWQ}, card(), {"model.safetensors": None, "model.gguf": b"GGUF"}, "only GGUF"),
    ],
)
def test_what_calls_itself_a_quantization_and_is_none_is_passed_over_with_the_reason(find, config, readme, files, why):
    found = find({"acme/llm-8b-q": (config, readme, files)})
    assert found.offers == ()
    (passed,) = found.passed_over
    assert passed.repo == "acme/llm-8b-q"
    assert why in passed.why


def test_a_finetune_of_the_base_is_no_quantization_of_it(find):
    found = find({"acme/llm-8b-chat-q": (NETWORK | {"quantization_config": AWQ}, card(relation="finetune"))})
    assert (found.offers, found.passed_over) == ((), ())


def test_a_gated_one_is_passed_over_and_says_where_its_licence_is(find):
    others = {"acme/llm-8b-AWQ": (NETWORK | {"quantization_config": AWQ}, card())}
    found = find(others, faults={"acme/llm-8b-AWQ": Faults(gated=True)})
    assert found.offers == ()
    assert "gated" in found.passed_over[0].why


def test_another_tokenizer_is_told(find):
    others = {"acme/llm-8b-AWQ": (NETWORK | {"quantization_config": AWQ}, card(), {"tokenizer.json": b'{"version": "2.0"}'})}
    assert find(others).offers[0].notes == ("tokenizer.json differs from the base's",)


def test_a_search_that_fails_is_not_one_that_found_nothing(find):
    with pytest.raises(Unreachable, match="503"):
        find({}, searchable=False)


def test_one_that_cannot_be_read_now_stops_the_search_instead_of_being_left_out(find):
    others = {"acme/llm-8b-AWQ": (NETWORK | {"quantization_config": AWQ}, card())}
    with pytest.raises(Unreachable):
        find(others, faults={"acme/llm-8b-AWQ": Faults(unavailable=50)})


def test_offline_nothing_is_searched(find, workshop):
    served = workshop.serve()
    base = resolve(served.repo, "main", served.access)
    with pytest.raises(WeightsInvalid, match="HF_HUB_OFFLINE"):
        find_published(base, {}, ("acme",), Access(served.address, offline=True))
