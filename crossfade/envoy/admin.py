"""Questions to a running Envoy, over its unix socket."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlencode

from crossfade.envoy.names import ROUTES
from crossfade.envoy.routefile import Unreadable, parse_dump
from crossfade.errors import Unreachable, UserError
from crossfade.rollout.routes import RouteTable

_RDS = f"http.{ROUTES}.rds.{ROUTES}."


@dataclass(frozen=True)
class Updates:
    """What Envoy made of the route files so far. `refused` grows with each one it would not take."""

    version: str
    refused: int


@dataclass(frozen=True)
class Traffic:
    """What clients have open at one Envoy. `accepting` while it takes new connections."""

    requests: int
    connections: int
    accepting: bool


@dataclass(frozen=True)
class Admin:
    """One Envoy's administration. Every question raises Unreachable when there is no whole answer within `timeout_s`."""

    socket: Path
    timeout_s: float = 2.0

    def live(self) -> bool:
        """Whether it has begun to serve; False while it waits for its clusters."""
        return self._get("/ready", expect=(200, 503)).startswith("LIVE")

    def updates(self) -> Updates:
        """The version in force and how many route files were refused."""
        found = self._stats(f"^http\\.{ROUTES}\\.rds\\.{ROUTES}\\.(version_text|update_rejected|update_failure)$")
        try:
            return Updates(
                version=str(found.get(_RDS + "version_text", "")),
                refused=int(found[_RDS + "update_rejected"]) + int(found[_RDS + "update_failure"]),
            )
        except (KeyError, ValueError) as error:
            raise Unreachable(f"the router at {self.socket} reads no route file ({error}); was it started by crossfade?") from None

    def routes(self) -> RouteTable:
        """The table in force, out of Envoy's own dump."""
        dump = self._get("/config_dump?resource=dynamic_route_configs")
        try:
            return parse_dump(dump)
        except Unreadable as error:
            raise Unreachable(f"the router at {self.socket}: {error}") from None

    def active_requests(self, engine: str) -> int:
        """Requests and streams the engine called `source`, `target` or `target-NAME` is answering right now.

        Mirrored requests are not among them: nobody waits for their answers. Raises UserError for an engine it does not have.
        """
        name = f"cluster.{engine}.upstream_rq_active"
        found = self._stats(f"^cluster\\.{re.escape(engine)}\\.upstream_rq_active$")
        if name not in found:
            raise UserError(f"the router at {self.socket} has no engine called {engine!r}")
        return self._count(found, name)

    def traffic(self) -> Traffic:
        """What clients have open, on the listener they use; scrapes do not count."""
        requests, connections, stopped = (
            f"http.{ROUTES}.downstream_rq_active",
            f"http.{ROUTES}.downstream_cx_active",
            "listener_manager.listener_stopped",
        )
        found = self._stats(f"^(http\\.{ROUTES}\\.downstream_(rq|cx)_active|listener_manager\\.listener_stopped)$")
        return Traffic(
            requests=self._count(found, requests),
            connections=self._count(found, connections),
            accepting=not self._count(found, stopped),
        )

    def drain(self) -> None:
        """Have it take its leave of clients: answers end their connections, and after its drain time it takes no new ones.

        What is in flight goes on, and so do the metrics. A second call changes nothing.
        """
        self._ask("POST", "/drain_listeners?inboundonly&graceful")

    def _count(self, found: Mapping[str, str], name: str) -> int:
        try:
            return int(found[name])
        except (KeyError, ValueError) as error:
            raise Unreachable(f"the router at {self.socket} does not tell {name} ({error}); was it started by crossfade?") from None

    def _stats(self, pattern: str) -> dict[str, str]:
        text = self._get("/stats", params={"filter": pattern, "format": "json"})
        try:
            return {entry["name"]: str(entry["value"]) for entry in json.loads(text)["stats"] if "name" in entry}
        except (KeyError, TypeError, ValueError) as error:
            raise Unreachable(f"the router at {self.socket} answered something else than statistics: {error}") from None

    def _get(self, path: str, *, params: dict[str, str] | None = None, expect: tuple[int, ...] = (200,)) -> str:
        return self._ask("GET", path, params=params, expect=expect)

    def _ask(self, method: str, path: str, *, params: Mapping[str, str] | None = None, expect: tuple[int, ...] = (200,)) -> str:
        connection = _Connection(self.socket, self.timeout_s)
        try:
            connection.request(method, f"{path}?{urlencode(params)}" if params else path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, HTTPException, UnicodeDecodeError) as error:
            raise Unreachable(
                f"the router's administration at {self.socket} does not answer ({error or type(error).__name__}); is Envoy running?"
            ) from None
        finally:
            connection.close()
        if answer.status not in expect:
            raise Unreachable(f"the router's administration at {self.socket} answered {answer.status} to {path}")
        return text


class _Connection(HTTPConnection):
    """Opened for each question, which takes no time here: one that is kept would go on asking the process before a handover."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("envoy", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Over the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
