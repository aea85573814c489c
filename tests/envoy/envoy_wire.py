"""An engine and its clients on bare sockets: quick enough for thousands of requests, able to misbehave, and counting exactly."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from conftest import Rig

Kind = Literal["sse", "ndjson"]
Fault = Literal["reset", "hang", "cut"]
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
Result = TypeVar("Result")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result], within_s: float = 60) -> Result:
        return self.begin(work).result(within_s)

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Any, *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class WireEngine:
    """Answers with its own name; streams as many numbered events as asked. `fault` or `status` make it fail."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name, self.healthy, self.status = name, True, 200
        self.fault: Fault | None = None
        self.hangs = False  # does not even answer its health checks
        self.seen = 0
        self.streaming = 0
        self.gate = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.Transport] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def start(self) -> WireEngine:
        self._loop = Loop()
        self._server = self._loop.run(self._listen())
        return self

    def stop(self) -> None:
        """From here on connections are refused."""
        if self._server.is_serving():
            self._loop.run(self._close())
            self._loop.close()

    def open_gate(self) -> None:
        """Let held streams finish, now and later."""
        self._loop.call(self.gate.set)

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Connection(self), sock=self._socket, backlog=512)

    async def _close(self) -> None:
        self._server.close()
        for transport in list(self._transports):
            transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answer(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        if head.startswith((b"GET /health", b"GET /api/version")):
            if not self.hangs:
                transport.write(_whole(200 if self.healthy else 500, b"{}"))
            return
        self.seen += 1
        if self.fault == "reset":
            transport.abort()
        elif self.fault == "cut":
            transport.write(_STREAM_HEAD + _chunk(b"data: first\n\n"))
            transport.close()  # after what was written, and without the last chunk
        elif self.fault == "hang" or self.hangs:
            return
        elif self.status != 200:
            transport.write(_whole(self.status, b'{"error": "as told"}'))
        elif b'"stream"' in body:
            task = asyncio.get_running_loop().create_task(self._stream(transport, json.loads(body)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            transport.write(_whole(200, json.dumps({"engine": self.name}).encode()))

    async def _stream(self, transport: asyncio.Transport, asked: dict[str, Any]) -> None:
        self.streaming += 1
        try:
            transport.write(_STREAM_HEAD)
            for number in range(asked["events"]):
                transport.write(_chunk(_event(asked["stream"], self.name, number)))
                if number == 0 and asked.get("held"):
                    await self.gate.wait()
                await asyncio.sleep(asked.get("every_s", 0))
            transport.write(_chunk(_last(asked["stream"])) + b"0\r\n\r\n")
        finally:
            self.streaming -= 1


def with_wire_engines(rig: Rig) -> Rig:
    """The started rig, its engines replaced by ones that are quick enough for a soak."""
    rig.source.stop()
    rig.target.stop()
    rig.source, rig.target = (WireEngine(engine.name, engine.port).start() for engine in (rig.source, rig.target))
    rig.start()
    return rig


class _Connection(asyncio.Protocol):
    def __init__(self, engine: WireEngine) -> None:
        self._engine, self._buffer = engine, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._engine._transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[: end + 4]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._engine.answer(self._transport, head, body)


@dataclass(frozen=True)
class Answer:
    """Status and body of one exchange. `whole` is False when the connection ended before the last byte; status 0: before the first."""

    status: int
    body: bytes
    whole: bool

    @property
    def engine(self) -> str:
        """Who answered, or what went wrong."""
        if self.status != 200 or not self.whole:
            return f"{self.status or 'no answer'}{'' if self.whole else ', cut'}"
        return str(json.loads(self.body)["engine"])


class Wire:
    """One connection to the router; opened anew when it was closed."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, session: str = "", **body: object) -> Answer:
        """One exchange, never repeated: what fails is an answer that says so."""
        status, received = 0, bytearray()
        try:
            reader, writer = self._open or await asyncio.open_connection(*self._address)
            self._open = reader, writer
            writer.write(_request({"messages": [], **body}, session))
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            if length := _LENGTH.search(head):
                received += await reader.readexactly(int(length[1]))
            else:
                await _dechunk(reader, received)
            if b"connection: close" in head.lower():
                self.close()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Answer(status, bytes(received), whole=False)
        return Answer(status, bytes(received), whole=True)

    def close(self) -> None:
        if self._open:
            self._open[1].close()
        self._open = None


def stream_engine(answer: Answer, kind: Kind, events: int) -> str:
    """The one engine of which the whole stream came, every event in its order and the last mark; else what is wrong with it."""
    if answer.status != 200 or not answer.whole:
        return f"{answer.status or 'no answer'} after {len(answer.body)} bytes"
    name = "source" if b"source" in answer.body else "target"
    expected = b"".join(_event(kind, name, number) for number in range(events)) + _last(kind)
    return name if answer.body == expected else f"not the whole stream of {name}: {answer.body[-80:]!r}"


@dataclass
class Tally:
    """What clients saw. Anything but a whole answer of an engine is in `failed` or, once headers had come, in `cut`."""

    requests: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


class Traffic:
    """Clients that ask without pause until told to stop; then each finishes what it began."""

    def __init__(self, address: str, model: str) -> None:
        self._address, self._model, self._stopping = address, model, False
        self.tally = Tally()
        self._loop = Loop()
        self._clients: asyncio.Future[Any]

    def start(self, *, short: int, streams: int, events: int, every_s: float) -> Traffic:
        self._loop.run(self._begin(short, streams, events, every_s))
        return self

    def stop(self, within_s: float = 60) -> Tally:
        self._stopping = True
        self._loop.run(self._end(), within_s)
        self._loop.close()
        return self.tally

    async def _begin(self, short: int, streams: int, events: int, every_s: float) -> None:
        kinds: tuple[Kind, Kind] = ("sse", "ndjson")
        readers = (self._read_streams(kinds[number % 2], events, every_s) for number in range(streams))
        self._clients = asyncio.gather(*(self._ask_shortly() for _ in range(short)), *readers)

    async def _end(self) -> None:
        await self._clients

    async def _ask_shortly(self) -> None:
        wire = Wire(self._address)
        while not self._stopping:
            answer = await wire.ask(model=self._model)
            if answer.engine in ("source", "target"):
                self.tally.requests[answer.engine] += 1
            else:
                self.tally.failed.append(answer.engine)
            await asyncio.sleep(0.01)  # leaves the other core to the router
        wire.close()

    async def _read_streams(self, kind: Kind, events: int, every_s: float) -> None:
        wire = Wire(self._address)
        while not self._stopping:
            answer = await wire.ask(model=self._model, stream=kind, events=events, every_s=every_s)
            engine = stream_engine(answer, kind, events)
            if engine in ("source", "target"):
                self.tally.streams[f"{kind} {engine}"] += 1
            elif answer.status == 200:
                self.tally.cut.append(engine)
            else:
                self.tally.failed.append(engine)
        wire.close()


def ask_many(address: str, count: int, *, model: str, sessions: list[str] | None = None, connections: int = 8) -> list[str]:
    """Who answered each of `count` requests, in their order."""
    answers = [""] * count

    async def client(first: int) -> None:
        wire = Wire(address)
        for number in range(first, count, connections):
            answers[number] = (await wire.ask(sessions[number] if sessions else "", model=model)).engine
        wire.close()

    async def everyone() -> None:
        await asyncio.gather(*(client(first) for first in range(connections)))

    asyncio.run(everyone())
    return answers


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _request(body: dict[str, object], session: str) -> bytes:
    content = json.dumps(body).encode()
    key = f"x-session-id: {session}\r\n" if session else ""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\n{key}content-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


async def _dechunk(reader: asyncio.StreamReader, into: bytearray) -> None:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        into += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


def _whole(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(kind: Kind, engine: str, number: int) -> bytes:
    event = json.dumps({"engine": engine, "event": number, "done": False})
    return f"data: {event}\n\n".encode() if kind == "sse" else f"{event}\n".encode()


def _last(kind: Kind) -> bytes:
    return b"data: [DONE]\n\n" if kind == "sse" else b'{"done": true}\n'
