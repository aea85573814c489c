"""The stand-in's OpenAI endpoints, as the official package sees them."""

import openai
import pytest
from stand_in import ANSWER, DESCRIBE, QUESTION, ask


def test_openai_lists_and_finds_models(openai_client):
    assert [model.id for model in openai_client.models.list()] == ["tiny:latest", "Support-Bot:v1"]
    assert openai_client.models.retrieve("TINY").id == "TINY"


def test_openai_chat_answers_whole(openai_client):
    reply = openai_client.chat.completions.create(model="tiny", messages=ask(), temperature=0)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (ANSWER, "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (13, 2)
    assert reply.system_fingerprint == "fp_ollama"


def test_openai_chat_streams_and_gives_usage_on_request(openai_client):
    chunks = list(
        openai_client.chat.completions.create(
            model="tiny", messages=ask(DESCRIBE), temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text.startswith("The mail service")
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 10


def test_openai_completions_are_templated_as_ollama_does(openai_client):
    assert openai_client.completions.create(model="tiny", prompt=QUESTION, temperature=0).choices[0].text == ANSWER
    chunks = openai_client.completions.create(model="tiny", prompt=QUESTION, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER


def test_openai_content_parts_are_read(openai_client):
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    assert openai_client.chat.completions.create(model="tiny", messages=parts, temperature=0).choices[0].message.content == ANSWER


def test_openai_max_tokens_counts_and_max_completion_tokens_does_not(openai_client):
    def tokens(**limit):
        return openai_client.chat.completions.create(model="tiny", messages=ask(DESCRIBE), temperature=0, **limit).usage.completion_tokens

    assert tokens(max_tokens=3) == 3
    assert tokens(max_completion_tokens=3) > 10


def test_openai_errors_have_openais_shape(openai_client):
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.chat.completions.create(model="nope", messages=ask())
    assert caught.value.body["type"] == "not_found_error"
    assert caught.value.body["message"] == "model 'nope' not found"
    with pytest.raises(openai.BadRequestError, match="too short"):
        openai_client.chat.completions.create(model="tiny", messages=[])
