import pytest

from crossfade.errors import PlanInvalid, UserError
from crossfade.parity.cases import DEFAULT_TASK, Case, load_suite


def test_a_suite_keeps_order_answers_and_tasks_and_skips_blank_lines():
    text = '{"prompt": "What is 4+6?", "answer": "10", "task": "add", "hf": "10"}\n\n{"prompt": "Tell me a joke."}\n'
    assert load_suite(text, "s.jsonl") == (Case("What is 4+6?", "10", "add"), Case("Tell me a joke.", None, DEFAULT_TASK))


def test_a_line_separator_inside_a_prompt_does_not_end_the_case():
    assert load_suite('{"prompt": "one\u2028two"}', "s.jsonl")[0].prompt == "one\u2028two"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{prompt: hello}", "not JSON"),
        ('{"prompt": "cut', "not JSON"),
        ('["What is 4+6?"]', "JSON object"),
        ('{"answer": "10"}', "prompt: is required"),
        ('{"prompt": "   "}', "prompt: is required"),
        ('{"prompt": 7}', "prompt: is required"),
        ('{"prompt": "p", "answer": 10}', "answer: must be text"),
        ('{"prompt": "p", "answer": ""}', "answer: must be text"),
        ('{"prompt": "p", "task": 3}', "task: must be text"),
    ],
)
def test_a_bad_case_is_named_with_file_and_line(line, said):
    with pytest.raises(PlanInvalid) as caught:
        load_suite('{"prompt": "fine"}\n' + line, "suite.jsonl")
    assert str(caught.value).startswith("suite.jsonl:2: ")
    assert said in str(caught.value)


def test_every_bad_case_is_named_at_once():
    with pytest.raises(PlanInvalid) as caught:
        load_suite("x\n\ny\n", "suite.jsonl")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["suite.jsonl:1", "suite.jsonl:3"]


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_an_empty_suite_is_the_users_mistake(text):
    with pytest.raises(UserError, match=r"suite\.jsonl:1: the suite has no case"):
        load_suite(text, "suite.jsonl")
