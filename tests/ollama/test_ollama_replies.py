"""Replies as real Ollama servers write them, which the stand-in has no reason to."""

import pytest

from crossfade.ollama.replies import LoadedReply, Parameter, ShowReply, TagsReply, parse_parameters


def test_parameters_are_unquoted_repeatable_and_in_a_steady_order():
    text = 'temperature                    0.7\nstop                           "<|im_end|>"\nstop                           "a\\nb"\n'
    assert parse_parameters(text) == (Parameter("stop", "<|im_end|>"), Parameter("stop", "a\nb"), Parameter("temperature", "0.7"))
    assert parse_parameters("\n".join(reversed(text.splitlines()))) == parse_parameters(text)
    assert parse_parameters("") == ()


def test_a_go_string_that_is_no_json_string_keeps_its_escapes():
    assert parse_parameters(r'stop  "\x00"') == (Parameter("stop", r"\x00"),)


@pytest.mark.parametrize("reply", [TagsReply, LoadedReply])
def test_a_list_go_never_filled_is_empty(reply):
    assert reply.model_validate_json('{"models": null}').models == []


def test_nine_digits_of_a_second_and_a_time_zone_are_read():
    text = '{"models": [{"name": "m", "expires_at": "2318-11-05T10:11:12.123456789+02:00"}]}'
    expires_at = LoadedReply.model_validate_json(text).models[0].expires_at
    assert (expires_at.year, expires_at.microsecond, expires_at.utcoffset().seconds) == (2318, 123456, 7200)


def test_a_model_whose_heads_differ_by_layer_has_no_single_count():
    info = '{"model_info": {"general.architecture": "gemma3n", "gemma3n.attention.head_count_kv": null, "gemma3n.block_count": 30}}'
    about = ShowReply.model_validate_json(info).description("gemma3n")
    assert (about.shape.head_count_kv, about.shape.block_count, about.context_length) == (None, 30, None)


def test_a_reply_that_says_next_to_nothing_is_still_a_description():
    about = ShowReply.model_validate_json('{"capabilities": null, "details": {}}').description("bare")
    assert (about.capabilities, about.shape.architecture, about.parameters) == ((), None, ())
