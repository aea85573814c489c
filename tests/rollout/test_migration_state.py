import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.errors import IllegalMove
from crossfade.rollout.phases import ENDED, TRANSITIONS, Phase
from crossfade.rollout.state import MigrationState

T0 = 1_000.0  # the beginning
T1 = 1_060.0  # the first move
T2 = 1_120.0  # the second


def state(phase=Phase.PLANNED, **changes):
    return MigrationState(name="chat/lab", plan_digest="d1", phase=phase, phase_since_s=T0, share_since_s=T0, **changes)


def test_a_legal_move_gives_a_new_state_and_leaves_the_old_one():
    before = state()
    after = before.with_phase(Phase.ASSESSED, now_s=T1, because="fits")
    assert (after.phase, after.phase_since_s, after.because) == (Phase.ASSESSED, T1, "fits")
    assert (before.phase, before.phase_since_s) == (Phase.PLANNED, T0)
    assert after.share_since_s == T0


def test_an_illegal_move_raises_and_names_both_phases():
    with pytest.raises(IllegalMove, match="planned cannot become ramping"):
        state().with_phase(Phase.RAMPING, now_s=T1, because="")


def test_the_first_step_begins_the_ramp_and_further_steps_keep_its_beginning():
    first = state(Phase.REHEARSED).with_step(0, 1000, now_s=T1, because="step 1")
    assert (first.phase, first.phase_since_s, first.share_since_s, first.share_bp) == (Phase.RAMPING, T1, T1, 1000)
    second = first.with_step(1, 5000, now_s=T2, because="step 2")
    assert (second.phase_since_s, second.share_since_s, second.step) == (T1, T2, 1)


@pytest.mark.parametrize("phase", [phase for phase in Phase if Phase.RAMPING not in TRANSITIONS[phase]])
def test_no_share_rises_outside_the_ramp(phase):
    with pytest.raises(IllegalMove):
        state(phase).with_step(0, 1000, now_s=T1, because="")


def test_a_new_attempt_begins_from_no_evidence_and_from_the_first_step():
    ended = state(Phase.ROLLED_BACK, step=2, share_bp=0, version=9)
    again = ended.with_new_attempt("d2", now_s=T2, because="mended")
    assert (again.phase, again.attempt, again.step, again.share_bp, again.plan_digest) == (Phase.PLANNED, 2, -1, 0, "d2")
    assert (again.phase_since_s, again.share_since_s, again.version) == (T2, T2, 9)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.FAILED, Phase.ROLLED_BACK)])
def test_a_migration_under_way_or_finished_begins_no_new_attempt(phase):
    with pytest.raises(IllegalMove):
        state(phase).with_new_attempt("d2", now_s=T2, because="")


@settings(deadline=None)
@given(st.data())
def test_from_every_phase_until_finished_a_rollback_ends_at_the_source(data):
    walked = state()
    for _ in range(data.draw(st.integers(0, 20))):
        choices = sorted(TRANSITIONS[walked.phase] - {Phase.PLANNED})
        if not choices:
            break
        after = data.draw(st.sampled_from(choices))
        if after is Phase.RAMPING:
            walked = walked.with_step(walked.step + 1, data.draw(st.integers(1, 10_000)), now_s=T1, because="")
        else:
            walked = walked.with_phase(after, now_s=T1, because="")
    if walked.phase in ENDED or walked.phase is Phase.ROLLING_BACK:
        return
    back = walked.with_phase(Phase.ROLLING_BACK, now_s=T2, because="breach").with_source_only(now_s=T2, because="verified")
    ended = back.with_phase(Phase.ROLLED_BACK, now_s=T2, because="verified")
    assert (ended.share_bp, ended.ended) == (0, True)


def test_a_state_stored_before_the_deadline_knew_of_resumptions_loads():
    stored = state(Phase.RAMPING, step=0, share_bp=1000).model_dump(mode="json", exclude={"resumed_s", "anew"})
    assert MigrationState.model_validate(stored).waits_since_s == T0


def test_a_state_of_a_newer_version_with_more_fields_still_loads():
    stored = state().model_dump_json()[:-1] + ', "added_later": 1}'
    assert MigrationState.model_validate_json(stored) == state()
