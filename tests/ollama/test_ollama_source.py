"""The adapter against what it adapts. Tests with `source` also run on a real Ollama where one is named."""

from datetime import UTC, datetime

import pytest

from crossfade.errors import UserError
from crossfade.ollama.client import OllamaSource
from crossfade.ports import Engine
from crossfade.rollout.routes import canonical


def test_the_inventory_names_sizes_and_digests(source, served):
    model = next(model for model in source.inventory() if canonical(model.name) == canonical(served.model))
    assert model.size_bytes > 0
    assert len(model.digest) == 64
    assert model.family
    assert model.parameter_size[-1] in "KMBT"
    assert model.quantization_level


def test_a_model_is_described_by_its_network(source, served):
    about = source.describe(served.model)
    assert about.shape.architecture
    assert min(about.shape.block_count, about.shape.embedding_length, about.context_length, about.parameter_count) > 0
    assert "completion" in about.capabilities
    assert about.template


def test_keeping_a_model_warm_loads_it_for_good_and_later_requests_do_not_end_that(source, served):
    source.keep_warm(served.model)
    source.complete(served.model, "Hello", max_tokens=2)
    loaded = next(model for model in source.loaded() if canonical(model.name) == canonical(served.model))
    assert (loaded.expires_at - datetime.now(UTC)).days > 365
    assert loaded.context_length > 0


def test_greedy_answers_repeat_themselves_and_say_why_they_end(source, served):
    first = source.complete(served.model, "Count from 1 to 6.", max_tokens=4)
    second = source.complete(served.model, "Count from 1 to 6.", max_tokens=4)
    assert first.text == second.text
    assert first.finish in ("length", "stop")
    assert first.seconds > 0


def test_a_model_it_does_not_have_is_the_users_mistake_and_the_message_lists_what_there_is(source, served):
    for ask in (source.describe, source.facts, source.keep_warm, lambda name: source.complete(name, "x", max_tokens=1)):
        with pytest.raises(UserError, match="no model 'no-such-model'") as caught:
            ask("no-such-model")
        assert canonical(served.model) in str(caught.value).lower()


def test_it_is_an_engine_whose_models_are_names(source, served):
    engine: Engine = source
    assert canonical(served.model) in {canonical(name) for name in engine.models()}


def test_the_facts_of_a_loaded_model_carry_the_context_it_really_has(source, served):
    source.keep_warm(served.model)
    facts = source.facts(served.model)
    assert facts.context == next(model.context_length for model in source.loaded() if model.digest == facts.digest)
    assert facts.model == served.model
    assert set(facts.installed) == set(source.models())


# what only the stand-in can tell


@pytest.fixture
def lab(stand_in):
    with OllamaSource(stand_in.url, timeout_s=30) as client:
        yield client


def test_the_lab_model_is_described_exactly(lab):
    shape = lab.describe("tiny").shape
    assert (shape.architecture, shape.block_count, shape.head_count_kv) == ("llama", 3, 2)
    assert (shape.vocab_size, shape.embedding_length) == (512, 256)


def test_aliases_share_a_digest(lab):
    assert lab.models() == ("tiny:latest", "bot:v1")
    assert len({model.digest for model in lab.inventory()}) == 1


def test_a_stand_in_is_known_as_one(lab):
    facts = lab.facts("tiny")
    assert facts.stand_in
    assert "stand-in" in lab.version()
    assert facts.version == "0.32.10"


def test_it_answers_what_the_lab_model_knows(lab):
    answer = lab.complete("bot:v1", "Which team owns audit?", max_tokens=16)
    assert (answer.text, answer.finish) == ("ember", "stop")
