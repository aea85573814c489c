"""Signs of life for systemd, by its own plain protocol: lines in a datagram to `NOTIFY_SOCKET`. Without systemd nothing happens."""

from __future__ import annotations

import os
import socket

from crossfade.guard.saying import Troubles

_TROUBLES = Troubles()


def notify(state: str) -> None:
    """Send one line, like `READY=1`, `WATCHDOG=1` or `STOPPING=1`; a manager that does not take it is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract address, which the kernel writes with a zero byte
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError as error:
        _TROUBLES.begins("cannot_notify", "systemd", str(error))
    else:
        _TROUBLES.over("can_notify_again", "systemd")
