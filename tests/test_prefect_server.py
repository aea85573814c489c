"""Prefect's server, started so that its event loop never waits for a database cursor among the garbage."""

from __future__ import annotations

import subprocess
import sys

_GARBAGE = """
import gc, threading, time, weakref
from crossfade.prefect_server import collect_aside

class Loop:
    def __init__(self):
        self.me = self

where = set()
collect_aside(started_after_s=0.05, every_s=0.01)
gc.callbacks.append(lambda *_: where.add(threading.current_thread().name))
known = weakref.ref(Loop())
give_up_s = time.monotonic() + 20
while known() is not None and time.monotonic() < give_up_s:
    _ = [Loop() for _ in range(30_000)]  # far more than what makes Python collect by itself
    time.sleep(0.01)
print(known() is None, sorted(where))
"""


def test_garbage_is_collected_in_a_thread_of_its_own_and_nowhere_else() -> None:
    said = subprocess.run([sys.executable, "-c", _GARBAGE], capture_output=True, text=True, check=False, timeout=60)
    assert said.stdout == "True ['garbage']\n", said.stderr


def test_it_is_prefects_own_command_line() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "crossfade.prefect_server", "--help"], capture_output=True, text=True, check=False, timeout=120
    )
    assert said.returncode == 0, said.stderr
    assert "Usage: prefect server start" in said.stdout
