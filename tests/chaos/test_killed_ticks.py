"""SIGKILL of `crossfade tick` at every boundary between two of its writes, with users on the route: the next tick finishes the work."""

from __future__ import annotations

import pytest
from chaos_cases import AFTER, KILLS, STARTS, case_of
from chaos_checks import agree, nothing_is_lost_or_doubled, prepare
from chaos_stand import Stand

from crossfade.failpoints import NAMES
from crossfade.rollout.routes import FULL_BP

pytestmark = pytest.mark.slow


def test_every_failpoint_is_tried_here() -> None:
    assert {failpoint.partition(":")[0] for _, failpoint in KILLS} == set(NAMES)
    assert set(AFTER) == set(STARTS) == {about for about, _ in KILLS}


@pytest.mark.parametrize(("about", "failpoint"), KILLS)
def test_the_tick_after_a_killed_one_finishes_its_work(stand: Stand, about: str, failpoint: str) -> None:
    case = case_of("kill", about, failpoint)
    stand.begin(case)
    prepare(stand.bench(case).desk, about, case)
    stand.killed(case, failpoint)
    written, _ = stand.weights(case)
    assert sum(written) == FULL_BP
    said = stand.ticked(case)
    if "blind" in said:  # a Prometheus that a busy machine kept from scraping: the tick holds, as it should
        said = stand.ticked(case)
    phases, shares = AFTER[about]
    share_bp = agree(stand, case)
    assert (stand.journal.state(case.migration).phase in phases, share_bp in shares) == (True, True), said
    nothing_is_lost_or_doubled(stand, case)
    assert stand.users.failed == []
