"""One Envoy process: its command, its ports, and the wait until it serves what the route file says."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from crossfade import processes
from crossfade.envoy.admin import Admin
from crossfade.envoy.binary import STRICT, envoy_binary
from crossfade.envoy.boot import Boot
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.recovery import settle
from crossfade.envoy.stack import Address, Stack
from crossfade.errors import PermanentError, Unreachable, UserError
from crossfade.home import Home
from crossfade.processes import Program
from crossfade.rollout.routes import RouteTable

DRAIN_S = 3
"""After a handover the old process goes on accepting connections this long, and ends each with its first answer."""

_LIVE_S = 20.0
_LOCK_S = 30.0


@contextmanager
def locked_folder(stack: Stack) -> Iterator[RouteFolder]:
    """The stack's route folder, created where missing, with its lock held; raises UserError or Unreachable."""
    folder = RouteFolder(stack.folder.absolute())
    folder.prepare()
    with folder.locked(deadline_s=_LOCK_S) as mine:
        if not mine:
            raise Unreachable(f"another process holds the lock of {folder.path} for over {_LOCK_S:g} s; is it hanging?")
        folder.sweep()
        yield folder


def launch(name: str, boot: Boot, bootstrap: str, folder: RouteFolder, home: Home) -> Program:
    """Start Envoy under this name of the process records; it does not serve yet."""
    file = boot.bootstrap_file(folder.path)
    folder.write(file, bootstrap)
    flags = [STRICT, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]
    drain = ["--drain-time-s", str(DRAIN_S), "--drain-strategy", "immediate"]
    command = [str(envoy_binary()), "-c", str(file), *flags, *drain]
    env = {"LANG": "C.UTF-8"} | processes.mark()
    return processes.start(name, command, records=home.processes, log=folder.log_file, env=env)


def await_live(program: Program, folder: RouteFolder, boot: Boot) -> RouteTable:
    """Wait until this Envoy serves exactly the table of the route file, and return it; a trip meanwhile is obeyed.

    Raises PermanentError when it ends instead, Unreachable when it never serves.
    """
    admin, deadline = Admin(boot.admin_socket(folder.path)), time.monotonic() + _LIVE_S
    seen = "it does not answer"
    while time.monotonic() < deadline:
        if not program.alive():
            raise PermanentError(f"the router ended instead of serving. Its last words:\n{program.log_tail()}")
        table = settle(folder).table
        try:
            if admin.live() and admin.routes() == table:
                return table
            seen = "it answers, but not with the table of the route file"
        except Unreachable as error:
            seen = str(error)
        time.sleep(0.01)
    raise Unreachable(f"the router (pid {program.pid}) does not serve within {_LIVE_S:g} s: {seen}. See {folder.log_file}")


def refuse_taken(address: Address) -> None:
    """Raise UserError, with the holder's name, when something listens there.

    Envoy itself would silently share the port with another program that allows it, and lose half the requests.
    """
    error = _bind_error(address)
    if error:
        raise UserError(
            f"the router cannot listen on {address}: {error}{_holder(address.port)}. Stop that program, or choose another address."
        )


def await_free(address: Address) -> None:
    """Wait as long as a draining process may yet accept connections there; raises UserError when something listens on."""
    deadline = time.monotonic() + DRAIN_S + 2
    while _bind_error(address) and time.monotonic() < deadline:
        time.sleep(0.05)
    refuse_taken(address)


def free_listener(candidates: list[str], host: str) -> str:
    """The first of these addresses that nobody uses, else one of `host` that the system picks; raises UserError when `host` is not ours."""
    for text in candidates:
        if not _bind_error(Address.parse(text)):
            return text
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise UserError(f"the router cannot show its metrics on {host}: {error.strerror}. Choose an address of this machine.") from None
        return str(Address(host, int(probe.getsockname()[1])))


def _bind_error(address: Address) -> str:
    with socket.socket(_family(address.host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
