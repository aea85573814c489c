"""What a request to the stand-in may ask for: length, stops, formats, log probabilities, and how long the model stays loaded."""

import json
from datetime import UTC, datetime

import ollama
from stand_in import ANSWER, DESCRIBE, ENDLESS, GREEDY, ask, poll_until


def test_num_predict_ends_an_answer_for_length(native):
    reply = native.chat("tiny", ask(DESCRIBE), options=GREEDY | {"num_predict": 3})
    assert (reply.eval_count, reply.done_reason) == (3, "length")


def test_stop_texts_end_an_answer_and_are_not_part_of_it(native):
    reply = native.chat("tiny", ask(DESCRIBE), options=GREEDY | {"stop": [" is owned"]})
    assert reply.message.content == "The mail service"


def test_format_holds_the_answer_to_json_or_a_schema(native):
    order = ask("Order 3 lamps for Oslo as JSON.")
    assert json.loads(native.chat("tiny", order, format="json", options=GREEDY).message.content)["qty"] == 3
    schema = {"type": "object", "properties": {"qty": {"type": "integer"}}, "required": ["qty"], "additionalProperties": False}
    assert json.loads(native.chat("tiny", order, format=schema, options=GREEDY).message.content) == {"qty": 3}


def test_log_probabilities_come_for_each_token(native):
    reply = native.chat("tiny", ask(), options=GREEDY, logprobs=True, top_logprobs=3)
    assert reply.logprobs[0].token == ANSWER
    assert -0.1 < reply.logprobs[0].logprob <= 0
    assert len(reply.logprobs[0].top_logprobs) == 3


def test_models_are_loaded_on_demand_kept_and_unloaded(native):
    assert native.generate("tiny", keep_alive=0).done_reason == "unload"
    assert poll_until(lambda: native.ps().models == [])
    assert native.generate("tiny").done_reason == "load"
    loaded = native.ps().models[0]
    assert (loaded.model, loaded.context_length) == ("tiny:latest", 1024)
    assert 290 < (loaded.expires_at - datetime.now(UTC)).total_seconds() <= 301


def test_a_negative_keep_alive_outlasts_later_requests_that_say_nothing(native):
    native.generate("tiny", keep_alive=-1)
    native.chat("tiny", ask(), options=GREEDY)
    assert native.ps().models[0].expires_at.year > 2200
    native.generate("tiny", keep_alive="5m")


def test_a_model_unloads_when_its_time_is_over_and_comes_back_by_itself(native):
    native.chat("tiny", ask(), options=GREEDY, keep_alive="100ms")
    assert poll_until(lambda: native.ps().models == [])
    assert native.chat("tiny", ask(), options=GREEDY).load_duration > 0


def test_unloading_does_not_cut_an_answer_under_way(source, native):
    stream = native.generate("tiny", "hi", format=ENDLESS, options={"num_predict": 1500}, stream=True)
    next(stream)
    ollama.Client(source.url).generate("tiny", keep_alive=0)
    *_, last = stream
    assert (last.done_reason, last.eval_count) == ("length", 1500)
