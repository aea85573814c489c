"""Who holds a TCP port of this machine."""

from __future__ import annotations

import socket

import psutil

from crossfade.errors import UserError


def require_free(port: int, *, purpose: str) -> None:
    """Return when a program may listen on the loopback port; raises UserError naming the port and who holds it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what servers set: connections still closing are no obstacle
        try:
            trial.bind(("127.0.0.1", port))
        except PermissionError:
            raise UserError(f"port {port} for {purpose} needs root; give target.runtime.port a value above 1023 in the plan.") from None
        except OSError:
            raise UserError(
                f"port {port} for {purpose} is held by {_holder(port)}. Stop it, or give target.runtime.port another value in the plan."
            ) from None


def _holder(port: int) -> str:
    try:
        listening = [
            one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
        ]
        pid = next((one.pid for one in listening if one.pid), None)
        if pid is None:
            return "another user's program"
        return f"process {pid} ({' '.join(psutil.Process(pid).cmdline())[:120]})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return "a program that cannot be named"
