"""Where HTTP/1.1 messages begin and end, without touching a byte of them (RFC 9112, section 6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

_PIECE = 1 << 16


class Broken(Exception):
    """A connection ended in the middle of a message, or what it carries is no HTTP/1.1."""


@dataclass(frozen=True)
class Body:
    """How long a body is: `length` bytes, or in chunks, or until the connection closes."""

    length: int = 0
    chunked: bool = False
    until_close: bool = False

    @property
    def streamed(self) -> bool:
        """Whether its end was unknown when it began."""
        return self.chunked or self.until_close


@dataclass(frozen=True)
class Head:
    """Start line and headers: `raw` as they came, and what framing needs of them."""

    raw: bytes
    start: tuple[str, str, str]
    headers: dict[str, str] = field(repr=False)

    @property
    def path(self) -> str:
        """Path and query of a request."""
        return self.start[1]

    @property
    def interim(self) -> bool:
        """Whether an answer is only a 1xx before the real one."""
        return self.start[1].startswith("1") and self.start[1] != "101"

    def request_body(self) -> Body:
        """The body of this request."""
        return self._framed() or Body()

    def answer_body(self, request: Head) -> Body:
        """The body of this answer to `request`."""
        status = self.start[1]
        if request.start[0] == "HEAD" or status in ("204", "304"):
            return Body()
        return self._framed() or Body(until_close=True)

    def _framed(self) -> Body | None:
        if self.headers.get("transfer-encoding", "").lower().endswith("chunked"):
            return Body(chunked=True)
        length = self.headers.get("content-length")
        if length is None:
            return None
        if not length.isdecimal():
            raise Broken(f"content-length is {length!r}")
        return Body(length=int(length))


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next message's head, or None when the connection ended before one began."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Broken("the connection ended within a head") from None
        return None
    except asyncio.LimitOverrunError:
        raise Broken("a head of over 1 MiB") from None
    start, *lines = raw[:-4].decode("latin-1").split("\r\n")
    parts = start.split(" ", 2)
    if len(parts) < 2:
        raise Broken(f"not HTTP: {start[:40]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Head(raw, (parts[0], parts[1], parts[2] if len(parts) > 2 else ""), headers)


async def copy_body(body: Body, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    """Hand the body on as it comes, or read it away when there is no writer."""
    if body.chunked:
        await _copy_chunks(reader, writer)
    elif body.until_close:
        while piece := await reader.read(_PIECE):
            await _pass_on(piece, writer)
    else:
        await _copy_exactly(body.length, reader, writer)


async def _copy_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while True:
        line = await _line(reader)
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise Broken(f"not a chunk: {line[:40]!r}") from None
        if size == 0:
            break
        await _pass_on(line, writer)
        await _copy_exactly(size + 2, reader, writer)
    await _pass_on(line, writer)
    while line != b"\r\n":  # trailers, then the empty line
        line = await _line(reader)
        await _pass_on(line, writer)


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise Broken("the connection ended within a chunk")
    return line


async def _copy_exactly(length: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while length > 0:
        piece = await reader.read(min(length, _PIECE))
        if not piece:
            raise Broken("the connection ended within a body")
        length -= len(piece)
        await _pass_on(piece, writer)


async def _pass_on(piece: bytes, writer: asyncio.StreamWriter | None) -> None:
    if writer:
        writer.write(piece)
        await writer.drain()
