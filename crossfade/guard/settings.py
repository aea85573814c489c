"""What the guard is told by its environment.

| variable | meaning |
|---|---|
| `CROSSFADE_GUARD_LISTEN` | `host:port` of webhook, `/healthz` and `/metrics`; port 0: any free one, named in `guard.json`; `off`: none |
| `CROSSFADE_GUARD_TOKEN` | what an alert webhook must bring as `Authorization: Bearer ...` |
| `CROSSFADE_GUARD_TOKEN_FILE` | the same in a file that only its owner may read |
"""

from __future__ import annotations

import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from crossfade.errors import UserError

DEFAULT_LISTEN = "127.0.0.1:9097"
OFF = "off"


@dataclass(frozen=True)
class GuardSettings:
    """Where to listen (`host` is empty for nowhere) and the token a webhook must bring (empty: none). The token is masked everywhere."""

    host: str
    port: int
    token: SecretStr

    @classmethod
    def from_environment(cls, *, listen: str = "") -> Self:
        """`listen` goes before the environment. Raises UserError for what cannot be meant, or would let any host trip a model."""
        host, port = _address(listen or os.environ.get("CROSSFADE_GUARD_LISTEN") or DEFAULT_LISTEN)
        token = _token()
        if host and not token and not _is_loopback(host):
            raise UserError(
                f"the guard would listen on {host}:{port} for everybody, and any of them could roll a model back. "
                "Set CROSSFADE_GUARD_TOKEN_FILE or CROSSFADE_GUARD_TOKEN, or listen on 127.0.0.1."
            )
        return cls(host, port, SecretStr(token))


def _address(text: str) -> tuple[str, int]:
    if text == OFF:
        return "", 0
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UserError(f"CROSSFADE_GUARD_LISTEN={text}: write host:port, like {DEFAULT_LISTEN}, or {OFF}.")
    return host.strip("[]"), int(port)


def _token() -> str:
    told = os.environ.get("CROSSFADE_GUARD_TOKEN", "")
    file = os.environ.get("CROSSFADE_GUARD_TOKEN_FILE", "")
    if told or not file:
        return told
    path = Path(file).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"CROSSFADE_GUARD_TOKEN_FILE={file} cannot be read: {error}. Put the token there, or unset it.") from None
    if mode & 0o077:
        raise UserError(f"CROSSFADE_GUARD_TOKEN_FILE={file} may be read by others (mode {mode:04o}). Run 'chmod 600 {file}'.")
    if not token:
        raise UserError(f"CROSSFADE_GUARD_TOKEN_FILE={file} is empty. Put the token there, or unset it.")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
