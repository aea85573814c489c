import dataclasses
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from crossfade import processes
from crossfade.errors import ToolMissing

STUBBORN_PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def begin(tmp_path: Path, code: str) -> processes.Program:
    command = [sys.executable, "-c", code]
    return processes.start("part", command, records=tmp_path / "records", log=tmp_path / "part.log", env=dict(os.environ))


def printed(program: processes.Program) -> str:
    for _ in range(200):
        if text := program.log_tail():
            return text
        time.sleep(0.05)
    raise AssertionError("it printed nothing")


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_is_found_again_by_name_until_it_is_stopped(tmp_path: Path) -> None:
    program = begin(tmp_path, "import time; time.sleep(600)")
    assert processes.find("part", tmp_path / "records") == program
    processes.stop(program, deadline_s=5)
    assert processes.find("part", tmp_path / "records") is None


def test_stopping_takes_children_along_even_when_the_parent_ignores_sigterm(tmp_path: Path) -> None:
    program = begin(tmp_path, STUBBORN_PARENT)
    child = int(printed(program))
    processes.stop(program, deadline_s=0.5)
    assert not program.alive()
    assert not runs(child)


def test_a_reused_pid_is_not_taken_for_ours() -> None:
    mine = processes.Program("part", os.getpid(), started_s=1.0, log="")
    assert not mine.alive()


def test_a_program_that_does_not_exist_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=r"no-such-program.*crossfade doctor"):
        processes.start("part", ["no-such-program"], records=tmp_path, log=tmp_path / "log", env={})


def test_stop_all_ends_what_is_recorded_and_forgets_it(tmp_path: Path) -> None:
    program = begin(tmp_path, "import time; time.sleep(600)")
    assert processes.stop_all(tmp_path / "records", deadline_s=5) == ("part",)
    assert not program.alive()
    assert list((tmp_path / "records").iterdir()) == []


def test_stop_all_ends_what_a_dead_leader_left_behind(tmp_path: Path) -> None:
    program = begin(tmp_path, STUBBORN_PARENT)
    child = int(printed(program))
    leader = psutil.Process(program.pid)
    leader.kill()
    leader.wait(5)
    assert runs(child)
    assert processes.stop_all(tmp_path / "records", deadline_s=0.5) == ("part",)
    assert not runs(child)


def test_the_session_of_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    program = begin(tmp_path, "import time; time.sleep(600)")
    stale = dataclasses.replace(program, started_s=program.started_s - 3)
    try:
        processes.stop(stale, deadline_s=1)
        assert program.alive()
    finally:
        processes.stop(program, deadline_s=5)


def test_the_mark_of_a_lab_is_handed_on_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processes.MARK, raising=False)
    assert processes.mark() == {}
    monkeypatch.setenv(processes.MARK, "/somewhere")
    assert processes.mark() == {processes.MARK: "/somewhere"}
