"""The stand-in's native API, as the official Ollama package sees it; bare HTTP for what that hides."""

import ollama
import pytest
from stand_in import ANSWER, DESCRIBE, GREEDY, QUESTION, ask

from crossfade.lab.source_models import canonical_name


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/v1/models", "/nowhere"])
def test_every_response_says_that_this_is_a_stand_in(web, path):
    assert web.get(path).headers["X-Crossfade-Stand-In"] == "llama.cpp"


def test_its_version_says_so_too(web):
    assert web.get("/api/version").json()["version"].endswith("+crossfade-stand-in")


def test_the_liveness_probe_answers_like_ollama(web):
    assert web.get("/").text == "Ollama is running"
    head = web.head("/")
    assert (head.status_code, head.content) == (200, b"")


def test_names_of_one_file_are_listed_as_aliases(native):
    models = native.list().models
    assert [model.model for model in models] == ["tiny:latest", "Support-Bot:v1"]
    assert len({model.digest for model in models}) == 1
    assert models[0].details.quantization_level == "Q4_K_M"
    assert models[0].details.parameter_size == "1.90M"


def test_show_gives_the_network_but_neither_its_name_nor_lists(native):
    shown = native.show("tiny")
    assert shown.modelinfo["llama.block_count"] == 3
    assert shown.modelinfo["tokenizer.ggml.tokens"] is None
    assert "general.name" not in shown.modelinfo
    assert shown.capabilities == ["completion"]
    assert "<|im_start|>" in shown.template


def test_chat_answers_whole(native):
    reply = native.chat("tiny", ask(), options=GREEDY)
    assert (reply.message.content, reply.done_reason, reply.eval_count) == (ANSWER, "stop", 2)
    assert reply.total_duration >= reply.eval_duration > 0


def test_chat_streams_pieces_that_join_to_the_whole(native):
    whole = native.chat("tiny", ask(DESCRIBE), options=GREEDY)
    pieces = list(native.chat("tiny", ask(DESCRIBE), options=GREEDY, stream=True))
    assert len(pieces) > 10
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces].count(True) == 1
    assert pieces[-1].eval_count == whole.eval_count


def test_generate_puts_the_template_around_a_prompt_unless_raw(native):
    assert native.generate("tiny", QUESTION, options=GREEDY).response == ANSWER
    raw = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    assert native.generate("tiny", raw, raw=True, options=GREEDY).response == ANSWER
    assert native.generate("tiny", QUESTION, raw=True, options=GREEDY).response != ANSWER


def test_generate_streams(native):
    pieces = list(native.generate("tiny", DESCRIBE, options=GREEDY, stream=True))
    assert "".join(piece.response for piece in pieces).startswith("The mail service")
    assert pieces[-1].done_reason == "stop"


def test_a_missing_model_is_404_in_ollamas_words(native):
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        native.chat("nope", ask())
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("tiny", "tiny:latest"),
        ("TINY:Latest", "tiny:latest"),
        ("library/tiny", "tiny:latest"),
        ("registry.ollama.ai/library/tiny:latest", "tiny:latest"),
        ("acme/tiny:q4", "acme/tiny:q4"),
        ("", ""),
        ("tiny:", ""),
        ("a b", ""),
        ("/tiny", ""),
    ],
)
def test_names_are_read_as_ollama_reads_them(written, meant):
    assert canonical_name(written) == meant


def test_the_reply_repeats_the_name_as_it_was_asked_for(native):
    assert native.chat("SUPPORT-bot:V1", ask(), options=GREEDY).model == "SUPPORT-bot:V1"
