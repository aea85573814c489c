"""A ramp between real parts while its engines or its Prometheus break; each tick asks the real Prometheus what the real router counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_stand import Stand

from crossfade.judge.verdict import Decision
from crossfade.ramp.rejudge import rejudge
from crossfade.rollout.phases import Phase

pytestmark = pytest.mark.slow

SLOW_MS = 80  # an engine answers after 40 ms: three times as long with it
LATENCY = "{ttft_p95: {at_most: 90ms, no_worse_than_source: 1.5x}}"
ERRORS = "{error_rate: {at_most: 1%, no_worse_than_source: 2x}}"


@pytest.fixture(scope="module")
def whole_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("r"))
    yield made
    made.close()


@pytest.fixture
def stand(whole_stand: Stand) -> Iterator[Stand]:
    yield whole_stand
    whole_stand.source.breaks()
    whole_stand.target.breaks()


@pytest.mark.parametrize(
    ("model", "gates", "faults", "gate"),
    [("slow", LATENCY, {"delay_ms": SLOW_MS}, "ttft_p95"), ("failing", ERRORS, {"error_share": 0.05}, "error_rate")],
)
def test_a_target_three_times_slower_or_failing_one_in_twenty_never_passes_its_first_step(
    stand: Stand, model: str, gates: str, faults: dict[str, float], gate: str
) -> None:
    stand.target.breaks(**faults)
    with stand.ramp(model, gates) as ramp:
        ramp.observe(5)
        last = ramp.until(lambda ticked: ticked.did == "rolled_back", within_s=60)
        assert max(ticked.state.share_bp for ticked in ramp.ticks) == 2500
        assert (ramp.state.phase, ramp.in_force()) == (Phase.ROLLED_BACK, 0)
        assert last.ruled is not None
        assert [one.gate for one in last.ruled.verdict.findings if one.decision is Decision.ROLL_BACK] == [gate]
        assert rejudge(ramp.desk.journal.entries(ramp.migration)) == []


def test_a_source_made_equally_slow_at_the_same_time_is_no_reason_to_roll_back(stand: Stand) -> None:
    with stand.ramp("shared", LATENCY) as ramp:
        ramp.observe(5)
        ramp.until(lambda ticked: ticked.state.share_bp == 2500, within_s=30)
        stand.source.breaks(delay_ms=SLOW_MS)
        stand.target.breaks(delay_ms=SLOW_MS)
        ramp.tick(12)  # twice as many as roll back a target that is slow alone
        ruled = ramp.ticks[-1].ruled
        assert ruled is not None
        (row,) = (one for one in ruled.verdict.findings if one.gate == "ttft_p95")
        assert "not yet proven" in row.reason
        assert row.low is not None
        assert row.low > 0.05  # it was seen: surely more than a twentieth over 90 ms
        assert {ticked.did for ticked in ramp.ticks} <= {"held", "moved"}
        assert ramp.in_force() >= 2500


def test_a_prometheus_that_is_killed_and_one_that_hangs_hold_the_ramp_and_it_goes_on_to_the_end(stand: Stand) -> None:
    with stand.ramp("blinded", "{error_rate: {at_most: 5%}, ttft_p95: {at_most: 2s}}") as ramp:
        ramp.until(lambda ticked: ticked.state.share_bp == 2500, within_s=30)
        stand.prometheus_process().kill()
        ramp.until(lambda ticked: "cannot be reached" in ticked.reason, within_s=15)
        assert all(ticked.did == "held" and "blind" in ticked.reason for ticked in ramp.tick(4))
        assert ramp.in_force() == 2500
        stand.start_prometheus()
        ramp.until(lambda ticked: ticked.state.share_bp == 5000, within_s=60)

        hanging = stand.prometheus_process()
        hanging.suspend()
        ramp.until(lambda ticked: "did not answer within 500ms" in ticked.reason, within_s=30)
        assert all(ticked.did == "held" and "blind" in ticked.reason for ticked in ramp.tick(2))
        assert ramp.in_force() == 5000
        hanging.resume()
        ramp.until(lambda ticked: ticked.state.phase is Phase.FINISHED, within_s=90)
        assert ramp.in_force() == 10_000
        assert rejudge(ramp.desk.journal.entries(ramp.migration)) == []
