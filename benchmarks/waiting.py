"""Waiting in a benchmark: always for something, never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(what: str, look: Callable[[], object], *, within_s: float, each_s: float) -> None:
    """Look again every `each_s` seconds until it is true; raises TimeoutError naming what never came."""
    give_up_s = time.monotonic() + within_s
    while not look():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"waited {within_s:g} s for {what}")
        time.sleep(each_s)
