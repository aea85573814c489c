"""Loopback ports for the lab's parts, outside the range from which the kernel gives clients theirs.

A part's port may stay unbound for minutes while others try to connect to it every second. Inside the ephemeral range one of
those attempts would sooner or later be given that very port and connect to itself, or a client would hold it.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FROM, _TO = 20_000, 65_536
_ENOUGH = 500


def are_good(ports: Iterable[int]) -> bool:
    """Whether a server could listen on each of them now and none of them is a client's."""
    candidates = set(_candidates())
    return all(port in candidates and _is_free(port) for port in ports)


def choose_free(count: int) -> list[int]:
    """`count` different free ports, outside the ephemeral range unless that range leaves no room."""
    candidates = _candidates()
    chosen: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if _is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            break
    return chosen


def _candidates() -> list[int]:
    low, high = _ephemeral_range()
    outside = [port for port in range(_FROM, _TO) if not low <= port <= high]
    return outside if len(outside) >= _ENOUGH else list(range(_FROM, _TO))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # without it a port would count as taken for a minute after its last connection ended
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = _EPHEMERAL.read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32_768, 60_999
