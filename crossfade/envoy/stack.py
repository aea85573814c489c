"""Where things are: the router's listeners, the engines, the route folder, and what the router lets through."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from crossfade.errors import UserError
from crossfade.rollout.routes import TARGET_NAME

TYPE: Final = "type.googleapis.com/envoy"
"""Prefix of Envoy's message types."""

Json = Mapping[str, object]
"""One of Envoy's messages, on its way to or from JSON."""

MIB: Final = 1024 * 1024

_BODY_LIMIT_AT_MOST = 1024 * MIB  # held in memory per request; Envoy's own field ends at 4 GiB
_SOCKET_PATH_BYTES = 107  # the kernel's limit for a unix socket's name
_SOCKET_NAME_BYTES = len("/admin-0123456789ab.sock")


@dataclass(frozen=True)
class Address:
    """Host and port of an engine or listener."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `host:port`, `[ipv6]:port`, with or without `http://`; raises UserError."""
        host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not bare or any(sign in bare for sign in "/@[] ") or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise UserError(f"{text!r} is not host:port with a port of 1 to 65535; write it like 127.0.0.1:11434")
        return cls(bare, int(port))

    def is_ip(self) -> bool:
        """Whether the host needs no name resolution."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Stack:
    """Where the router listens, where the engines are, and the route folder. Addresses are `host:port` texts.

    `listen` and the metrics addresses must be IP addresses; engines may be names. `metrics_listen` belongs to the first Envoy
    process; one that takes over from it uses `metrics_listen_after_handover`, or a free port of the same host when that is empty.
    `more_targets` are further targets by name, for routes that name one. `body_limit_bytes` bounds a request whose model must be
    read; images in base64 are large. `close_destructive` answers 403 to Ollama's pull, push, create, copy, delete and blobs.
    Raises UserError for an address that does not parse and for a folder whose path is too long to hold a socket.
    """

    listen: str
    metrics_listen: str
    source: str
    target: str
    folder: Path
    more_targets: Mapping[str, str] = field(default_factory=dict)
    metrics_listen_after_handover: str = ""
    body_limit_bytes: int = 32 * MIB
    close_destructive: bool = False

    def __post_init__(self) -> None:
        for text in (self.source, *self.targets.values()):
            Address.parse(text)
        second = (self.metrics_listen_after_handover,) if self.metrics_listen_after_handover else ()
        for text in (self.listen, self.metrics_listen, *second):
            if not Address.parse(text).is_ip():
                raise UserError(f"the router cannot listen on {text!r}: write an IP address, like 127.0.0.1:11434 or 0.0.0.0:11434")
        for name in self.more_targets:
            if not name or not re.fullmatch(TARGET_NAME, name):
                raise UserError(f"a target cannot be called {name!r}: use up to 40 lower-case letters, digits and hyphens")
        if not MIB <= self.body_limit_bytes <= _BODY_LIMIT_AT_MOST:
            raise UserError(f"the body limit is {self.body_limit_bytes} bytes; it must be 1 MiB to {_BODY_LIMIT_AT_MOST // MIB} MiB")
        folder = str(self.folder.absolute())
        if len(folder.encode()) + _SOCKET_NAME_BYTES > _SOCKET_PATH_BYTES:
            raise UserError(f"the route folder's path is too long for a unix socket ({folder}); choose a shorter CROSSFADE_HOME")

    @property
    def targets(self) -> Mapping[str, str]:
        """Address of every target by name; the empty name is the stack's own target."""
        return {"": self.target, **self.more_targets}


def socket_address(address: Address) -> Json:
    """Envoy's form of an address."""
    return {"socket_address": {"address": address.host, "port_value": address.port}}
