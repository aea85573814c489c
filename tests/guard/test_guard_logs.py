"""The guard looks after the logs of what runs in its home."""

import os
import sys
from pathlib import Path

from guard_stand import eventually

from crossfade import processes
from crossfade.guard.__main__ import guard_of
from crossfade.home import Home
from crossfade.logs import LOG_LIMIT, cut_from


def test_the_guard_cuts_the_log_of_a_server_that_has_printed_too_much(tmp_path: Path) -> None:
    home = Home(tmp_path)
    log = home.logs / "target-chat.log"
    code = f"print('x' * {LOG_LIMIT}, flush=True); print('the newest', flush=True); import time; time.sleep(600)"
    program = processes.start("target-chat", [sys.executable, "-c", code], records=home.processes, log=log, env=dict(os.environ))
    try:
        eventually(lambda: "the newest" in program.log_tail(1))
        guard_of(home).clerk.work_once()
        assert log.stat().st_size == 0
        assert cut_from(log).stat().st_size == LOG_LIMIT
        assert program.log_tail(1) == "the newest"
        assert program.alive()
    finally:
        processes.stop(program, deadline_s=5)
