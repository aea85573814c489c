"""A latency gate is judged by its own histogram, and no other is asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ramp_desk import MIGRATION, PLAN, Given, HandClock, good

from crossfade.plan.load import parse_plan
from crossfade.ramp.logbook import Desk
from crossfade.ramp.tick import tick


@pytest.mark.parametrize(
    ("gate", "asked"),
    [
        ("error_rate: {at_most: 1%}", set()),
        ("ttft_p95: {at_most: 500ms}", {"ttft"}),
        ("duration_p95: {at_most: 500ms}", {"duration"}),
        ("{ttft_p95: {at_most: 500ms}, duration_p50: {at_most: 500ms}}", {"ttft", "duration"}),
    ],
)
def test_a_ramp_rises_on_the_histograms_its_gates_count_and_asks_for_no_other(
    ready: tuple[Desk, Given, HandClock], gate: str, asked: set[str]
) -> None:
    desk, given, clock = ready
    text = "".join(line for line in PLAN.splitlines(keepends=True) if not line.startswith("  "))
    gates = gate if gate.startswith("{") else f"{{{gate}}}"
    plan = parse_plan(text.replace("gates:\n", f"gates: {gates}\n"), origin="test", folder=Path()).plan
    desk, given.each = dataclasses.replace(desk, plan=plan), good()
    assert tick(desk, MIGRATION).did == "moved"  # to the first step
    clock.sleep(120)
    ticked = tick(desk, MIGRATION)
    assert (ticked.did, ticked.state.share_bp) == ("moved", 5000), ticked.reason
    assert ticked.ruled
    target = ticked.ruled.evidence.intervals[0].target
    assert {name for name in ("ttft", "duration") if getattr(target, name)} == asked
