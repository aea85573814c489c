"""The simulated ramps themselves, and six scenarios in few replications: bounds that hold by design, never values.

Seeds are fixed. A bound is met when no more ramps miss it than three standard deviations of chance allow.
"""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from judge_bench.contest import BLOCK, Job, play, run_all, setup
from judge_bench.frozen import freeze, refuse_unless_frozen
from judge_bench.latency import BOUNDS_MS
from judge_bench.mann_whitney import is_surely_higher, without_outliers
from judge_bench.minutes import interpolated_quantile
from judge_bench.others import Flagger
from judge_bench.ramp import Outcome, drive
from judge_bench.results import Contest
from judge_bench.scenario import Fault, Scenario, ScenarioFile, ScenarioInvalid, read_scenarios
from judge_bench.world import Setting, World

REPLICATIONS = 12
ALPHA = BETA = 0.05
SCENARIOS = Path(__file__).parents[2] / "benchmarks" / "scenarios"
SETUP = setup()
SHORT = replace(SETUP, pace=replace(SETUP.pace, horizon_s=2700.0))

GOOD = Scenario(name="good", kind="good", rps=50)
BLIP = Scenario(name="blip", kind="good", rps=50, fault=(Fault(arm="target", from_s=150, for_s=15, errors=0.2),))
FAILING = Scenario(name="failing", kind="bad", rps=10, errors_x=1000)
SLOW = Scenario(name="slow", kind="bad", rps=50, ttft_x=2)
SILENT = Scenario(name="silent", kind="bad", rps=50, silent_from_s=300)
NOBODY = Scenario(name="nobody", kind="edge", rps=0)


@cache
def outcomes(scenario: Scenario) -> list[Outcome]:
    return play(Job("crossfade", scenario, seed=11, first=0, count=REPLICATIONS), SHORT)


def allowed(bound: float) -> float:
    return bound + 3 * math.sqrt(bound * (1 - bound) / REPLICATIONS)


def rolled_back(found: list[Outcome]) -> float:
    return sum(one.rolled_back_s >= 0 for one in found) / len(found)


def promoted(found: list[Outcome]) -> float:
    return sum(one.full_s >= 0 for one in found) / len(found)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [GOOD, BLIP], ids=lambda one: one.name)
def test_a_good_target_is_hardly_ever_rolled_back(scenario: Scenario) -> None:
    assert rolled_back(outcomes(scenario)) <= allowed(ALPHA)
    assert promoted(outcomes(scenario)) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [FAILING, SLOW, SILENT], ids=lambda one: one.name)
def test_a_bad_target_hardly_ever_gets_all_traffic_and_goes(scenario: Scenario) -> None:
    assert promoted(outcomes(scenario)) <= allowed(BETA)
    assert rolled_back(outcomes(scenario)) > 0.5


@pytest.mark.slow
def test_a_target_that_only_fails_is_gone_after_two_ticks_and_a_handful_of_requests() -> None:
    assert max(one.rolled_back_s for one in outcomes(FAILING)) <= 2 * SETUP.pace.tick_s
    assert max(one.target_bad for one in outcomes(FAILING)) < 50


@pytest.mark.slow
def test_without_traffic_nothing_is_decided() -> None:
    assert promoted(outcomes(NOBODY)) == rolled_back(outcomes(NOBODY)) == 0


@pytest.mark.slow
def test_the_memory_stays_small() -> None:
    assert max(one.memory_bytes for scenario in (GOOD, SILENT, NOBODY) for one in outcomes(scenario)) <= 65_536


def test_arrivals_do_not_depend_on_what_a_rule_decides() -> None:
    timid, bold = (World(GOOD, seed=1, replication=3, horizon_s=600, slow_ms=500) for _ in range(2))
    few, many = timid.passed(0, 8, Setting(0.01, 0)), bold.passed(0, 8, Setting(0.5, 0))
    assert (few.source.requests + few.target.requests).tolist() == (many.source.requests + many.target.requests).tolist()
    assert few.target.requests.sum() < many.target.requests.sum()
    assert timid.baseline().source.timed.tolist() == bold.baseline().source.timed.tolist()


def test_latencies_and_errors_are_those_asked_for() -> None:
    world = World(GOOD.model_copy(update={"ttft_x": 1.5, "errors_x": 4}), seed=1, replication=0, horizon_s=7200, slow_ms=500)
    seen = world.passed(0, 480, Setting(0.5, 0))
    bounds_ms = np.array(BOUNDS_MS["router"])
    assert interpolated_quantile(seen.source.timed.sum(axis=0), bounds_ms, 0.95) == pytest.approx(300, rel=0.03)
    assert interpolated_quantile(seen.target.timed.sum(axis=0), bounds_ms, 0.95) == pytest.approx(450, rel=0.03)
    assert seen.source.errors.sum() / seen.source.requests.sum() == pytest.approx(0.005, rel=0.15)
    assert seen.target.errors.sum() / seen.target.requests.sum() == pytest.approx(0.02, rel=0.1)


def test_a_silent_target_is_asked_and_never_counted() -> None:
    world = World(SILENT, seed=1, replication=0, horizon_s=900, slow_ms=500)
    seen = world.passed(18, 8, Setting(0.5, 0))
    assert seen.target.requests[:2].min() > 0
    assert seen.target.requests[2:].sum() == seen.target.timed[2:].sum() == 0
    assert world.target_bad > 1000


def test_flagger_goes_back_after_five_bad_minutes_and_forward_after_four_good_ones() -> None:
    pace = SETUP.pace
    bounds_ms = BOUNDS_MS["router"]
    failing = drive(World(FAILING, seed=1, replication=0, horizon_s=3600, slow_ms=500), Flagger(bounds_ms), pace)
    busy = GOOD.model_copy(update={"rps": 1000, "error_rate": 0})
    fine = drive(World(busy, seed=1, replication=0, horizon_s=3600, slow_ms=500), Flagger(bounds_ms), pace)
    assert (failing.rolled_back_s, fine.full_s) == (300, 240)


def test_mann_whitney_agrees_with_the_published_table() -> None:
    # two samples of five: the lower end of the 98 % interval is the second smallest of 25 shifts (critical value 1 for a tail of 1 %)
    baseline = [0.0, 10.0, 20.0, 30.0, 40.0]
    assert is_surely_higher([one + 45 for one in baseline], baseline)
    assert not is_surely_higher([one + 15 for one in baseline], baseline)
    assert without_outliers([1, 2, 3, 4, 1000, math.nan]) == [1, 2, 3, 4]


def test_a_run_taken_up_again_plays_only_what_is_missing_and_ends_alike(tmp_path: Path) -> None:
    jobs = [Job("flagger", FAILING, seed=5, first=first, count=3) for first in (0, 3)]
    whole = run_all(jobs, SHORT, processes=1, checkpoint=None)
    checkpoint = tmp_path / "blocks"
    run_all(jobs[:1], SHORT, processes=1, checkpoint=checkpoint)
    with checkpoint.open("a") as file:
        file.write('{"stamp": "cut off in the mid')
    first = checkpoint.read_text().splitlines()[0]
    assert run_all(jobs, SHORT, processes=1, checkpoint=checkpoint) == whole
    assert checkpoint.read_text().count(first) == 1


def test_a_holdout_is_judged_only_with_the_parameters_that_were_frozen(tmp_path: Path) -> None:
    path, frozen = SCENARIOS / "holdout.toml", tmp_path / "frozen.json"
    file = read_scenarios(path)
    with pytest.raises(SystemExit, match="are not those frozen"):
        refuse_unless_frozen(SETUP, path, file, frozen_file=frozen)
    freeze(SETUP, path, frozen_file=frozen)
    refuse_unless_frozen(SETUP, path, file, frozen_file=frozen)
    with pytest.raises(SystemExit, match="are not those frozen"):
        refuse_unless_frozen(SHORT, path, file, frozen_file=frozen)
    with pytest.raises(SystemExit, match="not the holdout that was frozen"):
        refuse_unless_frozen(SETUP, path, file.model_copy(update={"seed": 1}), frozen_file=frozen)


def test_only_a_defect_that_was_there_makes_a_promotion_wrong() -> None:
    early, late = Outcome(-1, 900, True, 0, 0, 0), Outcome(1200, 900, False, 0, 0, 0)
    file = ScenarioFile(title="t", seed=1, scenario=(SLOW,))
    pooled = Contest(file, ("crossfade",), 2, {("slow", "crossfade"): [early, late]}).pooled("crossfade")
    assert pooled["bad_promoted_pct"] == (100.0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 't'\nseed = 1\n[[scenario]]\nname = 'a'\nkind = 'goood'", "scenario.0.kind"),
        ("title = 't'\nseed = 1\n[[scenario]]\nname = 'a'\nkind = 'good'\nrqs = 3", "scenario.0.rqs"),
        ("title = 't'\nseed = 1\n[[scenario]]\nname = 'a'\nkind = 'good'\n[[scenario]]\nname = 'a'\nkind = 'bad'", "called 'a'"),
        ("title = ", "is not TOML"),
    ],
)
def test_a_scenario_file_with_a_mistake_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ScenarioInvalid, match=said):
        read_scenarios(path)


@pytest.mark.parametrize("name", ["known.toml", "holdout.toml"])
def test_shipped_scenarios_can_be_read_and_fill_whole_blocks(name: str) -> None:
    file = read_scenarios(SCENARIOS / name)
    assert {one.kind for one in file.scenario} == {"good", "bad", "edge"}
    assert 300 % BLOCK == 0
