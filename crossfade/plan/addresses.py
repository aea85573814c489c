"""Addresses as people write them: `http://host:port` of a server that is asked, `host:port` of one that listens.

| written | type here | used for |
|---|---|---|
| `http://127.0.0.1:9090`, `https://metrics.internal` | `Url` | what Crossfade itself asks |
| `http://127.0.0.1:11435` | `EngineUrl` | what the router asks too, which speaks plain HTTP |
| `10.0.0.7:8001`, `vllm:8000` | `HostPort` | where an engine is reached |
| `127.0.0.1:11434`, `0.0.0.0:11434` | `ListenAddress` | where the router listens: an IPv4 address, because Envoy looks up no name |

None may carry a user name, password or token: a plan is stored in the journal and shown in artifacts.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_DEFAULT_PORT = {"http": 80, "https": 443}


def checked_url(text: str) -> str:
    """`text` without a slash at its end; raises ValueError for anything but scheme, host and port."""
    if "@" in text:  # the message must not repeat what stands before it
        raise ValueError("an address with a user or token in it would be stored in the journal for all to read; write http://host:port")
    match = re.fullmatch(r"https?://[^/\s:?#]+(?::(\d{1,5}))?/?", text)
    if not match or (match[1] and not 0 < int(match[1]) < 65536):
        raise ValueError(f"{text!r} is not an address; write it like http://127.0.0.1:11434")
    return text.rstrip("/")


def _engine_url(text: str) -> str:
    url = checked_url(text)
    if url.startswith("https:"):
        raise ValueError(f"{text!r} is https, and the router speaks plain HTTP to engines; write http://host:port")
    return url


def _host_port(text: str) -> str:
    match = re.fullmatch(r"[\w.\-]+:(\d{1,5})", text)
    if not match or not 0 < int(match[1]) < 65536:
        raise ValueError(f"{text!r} is not host:port; write it like 127.0.0.1:11434")
    return text


def _listen_address(text: str) -> str:
    host, _, port = _host_port(text).rpartition(":")
    try:
        IPv4Address(host)
    except AddressValueError:
        raise ValueError(f"{host!r} is not an IP address, which the router needs; write 127.0.0.1:{port} or 0.0.0.0:{port}") from None
    return text


Url = Annotated[str, AfterValidator(checked_url)]
EngineUrl = Annotated[str, AfterValidator(_engine_url)]
HostPort = Annotated[str, AfterValidator(_host_port)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]


def host_port_of(url: str) -> str:
    """`host:port` of a checked URL, with the scheme's own port where none is written."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _DEFAULT_PORT[parts.scheme]}"


def same_address(one: str, other: str) -> bool:
    """Whether two `host:port` surely name one socket: `0.0.0.0` takes loopback too, and `localhost` is 127.0.0.1."""
    host, _, port = one.rpartition(":")
    other_host, _, other_port = other.rpartition(":")
    if int(port) != int(other_port):
        return False
    hosts = {_plain(host), _plain(other_host)}
    return len(hosts) == 1 or hosts == {"127.0.0.1", "0.0.0.0"}  # noqa: S104 - compared, not bound


def _plain(host: str) -> str:
    return "127.0.0.1" if host.lower() == "localhost" else host.lower()
