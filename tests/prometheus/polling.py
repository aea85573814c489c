from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(find: Callable[[], Found], good: Callable[[Found], object], *, within_s: float = 15.0) -> Found:
    """What `find` gives once it is `good`; the last value is in the message when it never is."""
    deadline = time.monotonic() + within_s
    while True:
        value = find()
        if good(value):
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {within_s} s"
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
