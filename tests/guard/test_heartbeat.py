from pathlib import Path

import pytest

from crossfade.guard.heartbeat import BlindSince, beat, guard_alive, my_heartbeat
from crossfade.home import Home

TS0 = 1_000_000.0


def test_no_heartbeat_is_no_guard(tmp_path: Path) -> None:
    status = guard_alive(Home(tmp_path), TS0)
    assert not status.alive
    assert "crossfade guard" in status.why


@pytest.mark.parametrize(("age_s", "alive"), [(0, True), (9, True), (11, False), (3600, False), (-3600, False)])
def test_a_heartbeat_is_believed_for_ten_seconds_and_never_from_the_future(tmp_path: Path, age_s: float, alive: bool) -> None:
    beat(Home(tmp_path), my_heartbeat(TS0, ("chat.lab",), {}))
    assert guard_alive(Home(tmp_path), TS0 + age_s).alive is alive


def test_blind_routes_are_told_with_their_reason(tmp_path: Path) -> None:
    blind = {"chat.lab": BlindSince(since_s=TS0, why="down")}
    beat(Home(tmp_path), my_heartbeat(TS0, ("chat.lab",), blind))
    assert guard_alive(Home(tmp_path), TS0).blind == blind


def test_a_broken_file_is_no_sign_of_life(tmp_path: Path) -> None:
    (tmp_path / "guard.json").write_text("{")
    assert not guard_alive(Home(tmp_path), TS0).alive
