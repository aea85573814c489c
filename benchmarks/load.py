"""Clients of the benchmarks: one connection timed exactly, sixteen at full speed, one that watches the share, many that count losses."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

KEY = "sk-benchmark"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LUA = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
wrk.body = [==[%s]==]
"""


def body(model: str, **more: object) -> bytes:
    """A chat request of about 1.3 kB."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant. " * 20},
        {"role": "user", "content": "What is it all about? " * 25},
    ]
    return json.dumps({"messages": messages, "model": model, "max_tokens": 16, **more}).encode()


def request(content: bytes) -> bytes:
    """The same on the wire."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Client:
    """One kept connection, one request at a time. Any answer but a whole 200 raises OSError."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, wire: bytes) -> bytes:
        """The whole answer, head and body."""
        self._socket.sendall(wire)
        received = b""
        while True:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("closed in the middle of an answer")
            received += data
            end = received.find(b"\r\n\r\n")
            if end < 0:
                continue
            length = _LENGTH.search(received, 0, end + 2)
            if length is None or not received.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"answered {received[:200]!r}")
            if len(received) >= end + 4 + int(length[1]):
                return received

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def time_requests(client: Client, wire: bytes, *, count: int, at_most_s: float) -> list[float]:
    """Milliseconds of up to `count` requests in a row; fewer when the time is over."""
    times, began = list[float](), time.perf_counter()
    while len(times) < count and time.perf_counter() - began < at_most_s:
        sent = time.perf_counter_ns()
        client.ask(wire)
        times.append((time.perf_counter_ns() - sent) / 1e6)
    return times


@dataclass(frozen=True)
class Burst:
    """Requests answered by full load in `seconds`."""

    requests: int
    seconds: float


def full_load(address: str, content: bytes, *, connections: int, seconds: int, folder: Path) -> Burst:
    """All connections busy all the time: by wrk where it is installed, else by a slower client of ours. Raises when any request fails."""
    wrk = shutil.which("wrk")
    if not wrk:
        with _process(_full_load, address, request(content), connections, seconds) as child:
            return Burst(child.end.recv(), seconds)
    script = folder / "post.lua"
    script.write_text(_LUA % (KEY, content.decode()))
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://{address}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", printed)
    if not found or "Non-2xx" in printed or re.search(r"Socket errors: (?!connect 0, read 0, write 0, timeout 0)", printed):
        raise RuntimeError(f"requests to {address} failed:\n{printed}")
    return Burst(int(found[1]), float(found[2]) / (1000 if found[3] == "ms" else 1))


def _full_load(child: _Child, address: str, wire: bytes, connections: int, seconds: int) -> None:
    async def one(until: float) -> int:
        reader, writer = await asyncio.open_connection(*_endpoint(address))
        count = 0
        while time.perf_counter() < until:
            writer.write(wire)
            await _read(reader)
            count += 1
        writer.close()
        return count

    async def everyone() -> int:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(one(until) for _ in range(connections))))

    child.end.send(asyncio.run(everyone()))


@dataclass(frozen=True)
class Turn:
    """The watcher's answers changed their engine, on the monotonic clock: answered now, and when the last of the other was asked for."""

    engine: str
    answered_ns: int
    other_asked_ns: int


@contextmanager
def watching(address: str, wire: bytes) -> Iterator[Connection]:
    """A process that asks about every millisecond, on its connections in turn, and sends a Turn when the engine changes."""
    with _process(_watch, address, wire) as child:
        yield child.end


def _watch(child: _Child, address: str, wire: bytes) -> None:
    clients, last, asked = [Client(address) for _ in range(4)], "", 0
    for client in cycle(clients):
        if child.stop.is_set():
            return
        before, asked = asked, time.monotonic_ns()
        engine = "target" if b'"target"' in client.ask(wire) else "source"
        if engine != last:
            child.end.send(Turn(engine, time.monotonic_ns(), before))
            last = engine
        time.sleep(0.0005)  # else it would take the router's core


@dataclass(frozen=True)
class Losses:
    """What many clients saw. Lost is what failed or was cut."""

    requests: int
    streams: int
    failed: int
    cut: int


@contextmanager
def counting_losses(address: str, short: bytes, long: bytes, *, events: int) -> Iterator[Callable[[], Losses]]:
    """Four clients of short requests and 24 of streams, in a process of their own. Call what is yielded to end and count them."""
    with _process(_many, address, short, long, events) as child:

        def end() -> Losses:
            child.stop.set()
            assert child.end.poll(60), "the clients did not end"
            losses = child.end.recv()
            assert isinstance(losses, Losses)
            return losses

        yield end


def _many(child: _Child, address: str, short: bytes, long: bytes, events: int) -> None:
    ok = {"short": 0, "stream": 0}
    lost = {"failed": 0, "cut": 0}

    def whole(answer: bytes) -> bool:
        names = [name for name in (b"source", b"target") if name in answer]
        if len(names) != 1:
            return False
        return answer == b"".join(b"data: %b %d\n\n" % (names[0], number) for number in range(events)) + b"data: [DONE]\n\n"

    async def client(kind: str, wire: bytes, pause_s: float) -> None:
        opened: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not child.stop.is_set():
            status = [0]
            try:
                opened = opened or await asyncio.open_connection(*_endpoint(address))
                opened[1].write(wire)
                answer = await _read(opened[0], status)
                fine = status[0] == 200 and (kind == "short" or whole(answer))
            except (OSError, asyncio.IncompleteReadError):
                fine, opened = False, None
            if fine:
                ok[kind] += 1
            else:
                lost["cut" if status[0] == 200 else "failed"] += 1
            await asyncio.sleep(pause_s)

    async def everyone() -> None:
        clients: list[Coroutine[Any, Any, None]] = [client("short", short, 0.01) for _ in range(4)]
        await asyncio.gather(*clients, *(client("stream", long, 0) for _ in range(24)))

    asyncio.run(everyone())
    child.end.send(Losses(ok["short"], ok["stream"], lost["failed"], lost["cut"]))


@dataclass(frozen=True)
class _Child:
    """A pipe's end, and the word to stop; the child has the same with the other end."""

    end: Connection
    stop: Event


@contextmanager
def _process(work: Callable[..., None], *arguments: object) -> Iterator[_Child]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = _Child(receiver, context.Event())
    process = context.Process(target=work, args=(_Child(sender, child.stop), *arguments), daemon=True)
    process.start()
    try:
        yield child
    finally:
        child.stop.set()
        process.join(5)
        process.kill()
        process.join()


async def _read(reader: asyncio.StreamReader, status: list[int] | None = None) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if status is not None:
        status[0] = int(head[9:12])
    elif not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answered {head[:200]!r}")
    if length := _LENGTH.search(head):
        return await reader.readexactly(int(length[1]))
    received = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        received += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return received


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
