"""The judge agrees with a prototype that was simulated on 45 kinds of ramps, where their settings coincide.

`prototype_traces.json` holds three made-up ramps and the numbers the prototype gave after each interval: a good target, one with six
times the errors whose requests come in clusters, and a slow one.
"""

from __future__ import annotations

import json
import math
from itertools import accumulate
from pathlib import Path

import pytest

from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Counts, Evidence, Histogram, Interval
from crossfade.judge.findings import log_against, log_for
from crossfade.judge.gate import Rules, judge
from crossfade.judge.rules import Yardstick
from crossfade.judge.state import begin
from crossfade.judge.tests_of import name_of
from crossfade.plan.gates import ErrorRateGate, LatencyGate
from crossfade.plan.model import JudgePlan, RampPlan

DATA = json.loads((Path(__file__).parent / "prototype_traces.json").read_text())
BOUNDS = (*DATA["bounds_ms"], math.inf)
SHARES = (100, 500, 2500, 5000, 10_000)
LIKE_THE_PROTOTYPE = JudgePlan().model_copy(update={"settle": 0.0, "memory": 15 / -math.log(0.99)})
GATES = {
    "error_rate": ErrorRateGate.model_construct(at_most=0.01, no_worse_than_source=2.0),
    "ttft_p95": LatencyGate.model_construct(at_most=500.0, no_worse_than_source=1.3),
    "ttft_p50": LatencyGate.model_construct(no_worse_than_source=1.3),
}
THEIR_NAMES = {
    "err_abs": "error_rate/limit", "err_rel": "error_rate/ratio", "lat_abs": "ttft_p95/limit", "lat_rel0.95": "ttft_p95/ratio",
    "lat_rel0.5": "ttft_p50/ratio",
}  # fmt: skip


def histogram(inside: list[float]) -> Histogram:
    return tuple(zip(BOUNDS, accumulate(inside), strict=True))


@pytest.mark.parametrize("trace", DATA["traces"])
def test_every_number_is_the_prototypes(trace) -> None:
    rho = {"error_rate": trace["rho_e"], "ttft_p95": trace["rho"].get("0.95", 0.0), "ttft_p50": trace["rho"].get("0.5", 0.0)}
    rules = Rules(gates=GATES, ramp=RampPlan(), judge=LIKE_THE_PROTOTYPE, baseline=Baseline(ttft=histogram(trace["hb"]), rho=rho))
    yardstick, state = Yardstick.of(rules), begin("1@0", judge=rules.judge, since_s=0.0, halvings=0)
    for tick, (step, n, k, inside, source_n, source_k, source_inside, log_e, in_favour, against) in enumerate(trace["rows"]):
        ours, theirs = (
            Counts(requests=requests, errors=errors, ttft=histogram(spread))
            for requests, errors, spread in ((n, k, inside), (source_n, source_k, source_inside))
        )
        interval = Interval(start_s=15.0 * tick, end_s=15.0 * tick + 15, source=theirs, target=ours)
        boundary = "cutover" if step == 3 else "step"
        evidence = Evidence(boundary=boundary, step=step, share_bp=SHARES[step], next_share_bp=SHARES[step + 1], intervals=(interval,))
        state = judge(rules, state, evidence).state
        assert state.e_log == pytest.approx(log_e, abs=1e-9)
        tests = {name_of(test): test for test in yardstick.tests}
        for theirs_name, value in in_favour:
            assert log_for(tests[THEIR_NAMES[theirs_name]], state) == pytest.approx(value, abs=1e-9)
        for theirs_name, value in against:
            if theirs_name in THEIR_NAMES:
                assert log_against(tests[THEIR_NAMES[theirs_name]], state, compares=True) == pytest.approx(value, abs=1e-9)
