import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.judge.verdict import Decision
from crossfade.parity.cases import Case
from crossfade.parity.intervals import Loss, Proportion, paired_difference, percent, wilson
from crossfade.parity.verdict import Pair, ParityReport, compare, judge_parity, measure_noise
from crossfade.plan.model import ParityPlan

BOUNDS = ParityPlan(identical_at_least="90%", correct_at_least="80%", correct_lost_at_most="2%")


def pairs(same=0, lost=0, gained=0, both_wrong=0, reworded=0):
    """`same` right and identical, `lost` right only on the source, `gained` only on the target, `reworded` without a right answer."""
    made = [Pair(Case(f"same {n}", "yes", "a"), "yes", "yes") for n in range(same)]
    made += [Pair(Case(f"lost {n}", "yes", "a"), "yes", "no") for n in range(lost)]
    made += [Pair(Case(f"gained {n}", "yes", "b"), "no", "yes") for n in range(gained)]
    made += [Pair(Case(f"wrong {n}", "yes", "b"), "no", "no") for n in range(both_wrong)]
    return made + [Pair(Case(f"reworded {n}", None, "c"), "hello", "hi") for n in range(reworded)]


def test_equal_engines_promote_and_the_reason_carries_every_number_and_bound():
    verdict = judge_parity(compare(pairs(same=180)), BOUNDS)
    assert verdict.decision == Decision.PROMOTE
    assert [finding.gate for finding in verdict.findings] == ["identical_at_least", "correct_at_least", "correct_lost_at_most"]
    for finding in verdict.findings:
        assert "of 180" in finding.reason
    assert "at least 90%" in verdict.reason
    assert "at least 80%" in verdict.reason
    assert "at most 2%" in verdict.reason


def test_the_report_counts_lost_and_gained_cases_and_tasks():
    report = compare(pairs(same=90, lost=4, gained=2, both_wrong=1, reworded=3), examples=5)
    assert (report.n, report.identical.count) == (100, 91)
    assert (report.correct_source.count, report.correct_target.count, report.correct_source.n) == (94, 92, 97)
    assert [case.prompt for case in report.lost] == ["lost 0", "lost 1", "lost 2", "lost 3"]
    assert [case.prompt for case in report.gained] == ["gained 0", "gained 1"]
    assert [case.prompt for case in report.examples] == ["lost 0", "lost 1", "lost 2", "lost 3", "gained 0"]
    assert [(task.task, task.identical.n, task.correct_target.n) for task in report.tasks] == [("a", 94, 94), ("b", 3, 3), ("c", 3, 0)]


@pytest.mark.parametrize(
    ("answers", "broken"),
    [
        ({"same": 80, "lost": 1, "gained": 1, "reworded": 20}, "identical_at_least"),
        ({"same": 90, "both_wrong": 30}, "correct_at_least"),
        ({"same": 190, "lost": 5}, "correct_lost_at_most"),
    ],
)
def test_a_broken_bound_stops_and_is_named_alone(answers, broken):
    verdict = judge_parity(compare(pairs(**answers)), BOUNDS)
    assert verdict.decision == Decision.ROLL_BACK
    assert [finding.gate for finding in verdict.findings if finding.decision != Decision.PROMOTE] == [broken]
    assert "no traffic moves" in verdict.next_action


@pytest.mark.parametrize(("lost", "decision"), [(2, Decision.PROMOTE), (3, Decision.ROLL_BACK)])
def test_a_loss_of_exactly_the_margin_is_allowed(lost, decision):
    assert judge_parity(compare(pairs(same=100 - lost, lost=lost)), BOUNDS).decision == decision


def test_a_rate_of_exactly_the_bound_is_allowed():
    for n, percents in itertools.product(range(10, 400, 10), range(10, 100, 10)):
        good = n * percents // 100
        bounds = ParityPlan(identical_at_least=f"{percents}%", correct_lost_at_most="100%")
        assert judge_parity(compare(pairs(same=good, lost=n - good)), bounds).decision == Decision.PROMOTE


def test_a_suite_without_answers_judges_only_identity_and_says_so():
    verdict = judge_parity(compare([Pair(Case("p"), "x", "x")] * 10), ParityPlan())
    assert verdict.decision == Decision.PROMOTE
    assert [finding.gate for finding in verdict.findings] == ["identical_at_least"]
    assert "no case has an answer" in verdict.reason


def test_asking_for_correctness_without_answers_holds():
    verdict = judge_parity(compare([Pair(Case("p"), "x", "x")] * 10), BOUNDS)
    assert verdict.decision == Decision.HOLD
    assert "suite" in verdict.next_action


def test_no_answers_at_all_hold():
    assert judge_parity(compare([]), ParityPlan()).decision == Decision.HOLD


def test_the_sources_own_noise_is_told_when_the_bound_is_beyond_it():
    noise = measure_noise(["a"] * 100, ["a"] * 85 + ["b"] * 15)
    verdict = judge_parity(compare(pairs(same=95, reworded=20), noise=noise), BOUNDS)
    assert verdict.decision == Decision.ROLL_BACK
    assert "repeats its own text in 85 of 100" in verdict.reason
    assert "no target can meet this bound" in verdict.reason


def test_a_stored_report_is_judged_the_same_again():
    report = compare(pairs(same=90, lost=4, gained=2, reworded=3), noise=measure_noise(["a"], ["a"]))
    again = ParityReport.model_validate_json(report.model_dump_json())
    assert again == report
    assert judge_parity(again, BOUNDS) == judge_parity(report, BOUNDS)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (0, 0, 0.0, 1.0)],
)
def test_wilson_gives_the_published_intervals(count, n, low, high):
    assert wilson(count, n) == pytest.approx((low, high), abs=5e-5)


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says():
    generator, covered = random.Random(7), 0  # noqa: S311 - a simulation
    for _ in range(2000):
        moves = generator.choices([1, -1, 0], weights=[4, 1, 95], k=180)
        low, high = paired_difference(moves.count(1), moves.count(-1), 180)
        covered += low <= 0.03 <= high
    assert 0.93 <= covered / 2000 <= 0.99


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 500))
def test_every_interval_contains_its_rate_and_stays_in_bounds(count, rest):
    share = Proportion.of(count, count + rest)
    assert 0 <= share.low <= share.rate + 1e-12 <= share.high + 2e-12 <= 1 + 3e-12


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_swapping_the_engines_turns_the_loss_round(lost, gained, rest):
    loss, back = Loss.of(lost, gained, lost + gained + rest), Loss.of(gained, lost, lost + gained + rest)
    assert (loss.low, loss.high, loss.rate) == pytest.approx((-back.high, -back.low, -back.rate))


@pytest.mark.parametrize(("rate", "text"), [(0.9, "90%"), (0.98765, "98.77%"), (0.005, "0.5%"), (0, "0%"), (1, "100%"), (-0.01, "-1%")])
def test_per_cents_are_written_short(rate, text):
    assert percent(rate) == text
