from pathlib import Path

from ramp_desk import MIGRATION, good, rehearsed, start_envoy

from crossfade import processes
from crossfade.ports import Entry
from crossfade.ramp.report import tell
from crossfade.ramp.tick import tick


def test_the_report_tells_each_decision_and_move_and_leaves_the_raw_results_in_the_journal(tmp_path: Path) -> None:
    home, envoy = start_envoy(tmp_path)
    try:
        desk, given, _ = rehearsed(home)
        given.found = good()
        desk.journal.record(Entry(MIGRATION, 1, 1.0, "outcome", "assess", '{"commit":"abc"}'))
        desk.journal.record(Entry(MIGRATION, 1, 1.0, "breach", "chat.lab-latest", '{"reason":"3 of 6 requests failed","guard":{}}'))
        ticked = tick(desk, MIGRATION)
    finally:
        processes.stop(envoy, deadline_s=5)
    story = tell(ticked.state, desk.journal.entries(MIGRATION), "a note")
    assert "a note" in story
    assert "**promote**" in story
    assert "| outcome | share | 10% in generation" in story
    assert "| breach | chat.lab-latest | 3 of 6 requests failed |" in story
    assert "abc" not in story
