import pytest

from crossfade.parity.scorers import SCORERS, exact_answer, identical_text, is_correct, json_answer, scorer_for


@pytest.mark.parametrize(
    ("source", "target", "same"), [("10", "10", True), ("10", "10 ", False), ("Delhi", "delhi", False), ("", "", True)]
)
def test_identical_means_every_character(source, target, same):
    assert identical_text(source, target) is same


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [("10", " 10\n", True), ("10", "10.", False), ("10", "The answer is 10", False), ("positive", "Positive", False), ("10", "", False)],
)
def test_an_exact_answer_forgives_only_white_space_around_it(answer, text, right):
    assert exact_answer(answer, text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"item": "desk", "qty": 3}', True),
        ('{ "qty":3, "item":"desk" }', True),
        ('{"item": "desk", "qty": 3.0}', True),
        ('{"item": "desk", "qty": "3"}', False),
        ('{"item": "desk", "qty": true}', False),
        ('{"item": "desk"}', False),
        ('Here you are: {"item": "desk", "qty": 3}', False),
        ('{"item": "desk", "qty": 3', False),
        ("", False),
    ],
)
def test_a_json_answer_is_compared_by_meaning_and_nothing_may_stand_around_it(text, right):
    assert json_answer('{"item": "desk", "qty": 3}', text) is right


def test_one_is_not_true_in_json():
    assert not json_answer('{"ok": true}', '{"ok": 1}')


@pytest.mark.parametrize(
    ("answer", "name"), [('{"a": 1}', "json"), ("[1, 2]", "json"), ("10", "exact"), ("Delhi", "exact"), ('"x"', "exact")]
)
def test_the_expected_answer_chooses_its_scorer(answer, name):
    assert scorer_for(answer) == name
    assert is_correct(answer, answer)
    assert name in SCORERS
