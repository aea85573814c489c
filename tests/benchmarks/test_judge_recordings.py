"""Real ramps, recorded in the lab, judged again from the router's raw samples."""

import gzip
from pathlib import Path

import pytest
from judge_bench.product import read_plan
from judge_bench.replay import Tick, judge_recording, replay

from crossfade.judge.verdict import Decision
from crossfade.prometheus.recording import replay as intervals_of

RECORDINGS = Path(__file__).parents[2] / "benchmarks" / "recordings"
PLAN = read_plan(RECORDINGS / "plan.yaml")


def ticks_of(name: str) -> list[Tick]:
    text = gzip.decompress((RECORDINGS / name).read_bytes()).decode()
    return judge_recording(intervals_of(text, every_s=PLAN.judge.interval), PLAN, baseline_s=None)


def test_the_recorded_good_ramp_goes_to_its_end_and_nothing_is_ever_held_against_it() -> None:
    ticks = ticks_of("good.json.gz")
    assert ticks[-1].verdict.decision is Decision.PROMOTE
    assert [tick.step for tick in ticks] == sorted(tick.step for tick in ticks)
    assert ticks[-1].step == len(PLAN.ramp.steps) - 1
    against = [finding.evidence_against or 0 for tick in ticks for finding in tick.verdict.findings]
    assert max(against) < 2


def test_the_recorded_target_that_became_slow_is_rolled_back_for_that_and_never_gets_everything() -> None:
    ticks = ticks_of("slow_target.json.gz")
    assert [tick.verdict.decision for tick in ticks].index(Decision.ROLL_BACK) == len(ticks) - 1
    assert max(tick.step for tick in ticks) < len(PLAN.ramp.steps) - 1
    (condemning,) = (one.gate for one in ticks[-1].verdict.findings if one.decision is Decision.ROLL_BACK)
    assert condemning == "ttft_p95"


@pytest.mark.parametrize("interval", ["5s", "15s"])
def test_the_length_of_an_interval_changes_nothing_about_what_becomes_of_a_recorded_ramp(interval: str) -> None:
    other = PLAN.model_copy(update={"judge": PLAN.judge.model_copy(update={"interval": float(interval.rstrip("s"))})})
    for name, ends in (("good.json.gz", Decision.PROMOTE), ("slow_target.json.gz", Decision.ROLL_BACK)):
        text = gzip.decompress((RECORDINGS / name).read_bytes()).decode()
        ticks = judge_recording(intervals_of(text, every_s=other.judge.interval), other, baseline_s=None)
        assert ticks[-1].verdict.decision is ends


def test_the_shipped_recordings_are_shown_by_the_command_and_are_small(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(RECORDINGS.glob("*.json.gz"))
    assert [file.name for file in files] == ["good.json.gz", "slow_target.json.gz"]
    assert max(file.stat().st_size for file in files) < 200_000
    assert replay(files, plan_file=RECORDINGS / "plan.yaml", baseline_s=None) == 0
    shown = capsys.readouterr().out
    assert shown.count("roll_back") == 1
