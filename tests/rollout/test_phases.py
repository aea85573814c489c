import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.errors import IllegalMove
from crossfade.rollout.phases import BEFORE_TRAFFIC, ENDED, TRANSITIONS, WITH_TRAFFIC, Phase, check_move, reached

FORWARD = [
    *("planned", "assessed", "observing", "downloaded", "quantized", "serving"),
    *("proven", "rehearsed", "ramping", "cut_over", "soaking", "finished"),
]
UNDER_WAY = [phase for phase in Phase if phase not in ENDED and phase != Phase.ROLLING_BACK]


def test_stored_names_never_change():
    assert [str(phase) for phase in Phase] == [*FORWARD, "rolling_back", "rolled_back", "failed"]


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(FORWARD)))
def test_the_way_forward_is_open_one_phase_at_a_time(before, after):
    check_move(Phase(before), Phase(after))


def test_only_the_moves_of_the_table_are_legal():
    legal = {(a, b) for a in Phase for b in Phase if b in TRANSITIONS[a]}
    forward = set(itertools.pairwise(map(Phase, FORWARD)))
    back = {(phase, Phase.ROLLING_BACK) for phase in BEFORE_TRAFFIC | WITH_TRAFFIC} | {(Phase.ROLLING_BACK, Phase.ROLLED_BACK)}
    fail = {(phase, Phase.FAILED) for phase in BEFORE_TRAFFIC}
    again = {(Phase.FAILED, Phase.PLANNED), (Phase.ROLLED_BACK, Phase.PLANNED)}
    down = {(phase, Phase.RAMPING) for phase in WITH_TRAFFIC}
    assert legal == forward | back | fail | again | down


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in Phase for b in Phase if b not in TRANSITIONS[a]])
def test_an_illegal_move_names_both_phases_and_what_may_follow(before, after):
    with pytest.raises(IllegalMove) as caught:
        check_move(before, after)
    said = str(caught.value)
    assert f"is {before} cannot become {after}" in said
    for allowed in TRANSITIONS[before]:
        assert str(allowed) in said


@settings(deadline=None)
@given(st.data())
def test_from_every_phase_until_finished_a_rollback_is_one_move_away(data):
    phase = Phase.PLANNED
    for _ in range(data.draw(st.integers(0, 30))):
        choices = sorted(TRANSITIONS[phase])
        if not choices:
            break
        phase = data.draw(st.sampled_from(choices))
        if phase in UNDER_WAY:
            check_move(phase, Phase.ROLLING_BACK)
    assert phase in UNDER_WAY or phase in ENDED or phase is Phase.ROLLING_BACK


def test_a_failure_ends_a_migration_only_before_users_are_on_the_target():
    assert {phase for phase in Phase if Phase.FAILED in TRANSITIONS[phase]} == BEFORE_TRAFFIC
    assert not BEFORE_TRAFFIC & WITH_TRAFFIC


def test_every_phase_is_of_one_sort():
    assert {*BEFORE_TRAFFIC, *WITH_TRAFFIC, *ENDED, Phase.ROLLING_BACK} == set(Phase)


def test_milestones_are_reached_only_on_the_way_forward():
    assert reached(Phase.SERVING, Phase.DOWNLOADED)
    assert reached(Phase.SERVING, Phase.SERVING)
    assert not reached(Phase.SERVING, Phase.PROVEN)
    assert not any(reached(phase, Phase.PLANNED) for phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED))
