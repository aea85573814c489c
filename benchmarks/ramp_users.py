"""Users of a ramp: short completions at a steady rate, whether or not earlier ones were answered, from a process of their own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_AT_MOST_S = 30.0
"""A user who waits longer has been failed."""

_IN_FLIGHT_AT_MOST = 200
_WAITS_S = 60.0


@dataclass(frozen=True)
class Seen:
    """What the users saw: requests that were answered whole with 200, and those that were not."""

    answered: int
    failed: int


@contextmanager
def users(address: str, model: str, *, rps: float) -> Iterator[Callable[[], Seen]]:
    """Users of `model` at the router's `address`. Call what is yielded to end and count them; leaving ends them too."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    stop = context.Event()
    process = context.Process(target=_ask, args=(address, model, rps, stop, sender), daemon=True)
    process.start()

    def count() -> Seen:
        stop.set()
        assert receiver.poll(_WAITS_S), "the users did not end"
        seen = receiver.recv()
        assert isinstance(seen, Seen)
        return seen

    try:
        yield count
    finally:
        stop.set()
        process.join(5)
        process.kill()
        process.join()


def _ask(address: str, model: str, rps: float, stop: Event, sender: Connection) -> None:
    sender.send(asyncio.run(_Users(address, model).ask_until(stop, rps)))


class _Users:
    """Requests under way, and connections that wait for the next one."""

    def __init__(self, address: str, model: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._wires = [_wire(model, stream=stream) for stream in (False, True)]
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._answered = self._failed = 0

    async def ask_until(self, stop: Event, rps: float) -> Seen:
        """One request after the other, every other one streamed."""
        loop, under_way = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        began_s, number = loop.time(), 0
        while not stop.is_set():
            await asyncio.sleep(max(0.0, began_s + number / rps - loop.time()))
            if len(under_way) < _IN_FLIGHT_AT_MOST:  # else the machine stands still, and more of them would not help it
                task = asyncio.create_task(self._one(self._wires[number % 2]))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)
        return Seen(self._answered, self._failed)

    async def _one(self, wire: bytes) -> None:
        connection = None
        try:
            async with asyncio.timeout(_AT_MOST_S):
                connection = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
                connection[1].write(wire)
                fine = await _read(connection[0])
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            self._failed += 1
            if connection:
                connection[1].close()
            return
        self._answered, self._failed = self._answered + fine, self._failed + (not fine)
        self._idle.append(connection)


def _wire(model: str, *, stream: bool) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": "Which team owns audit?"}], "max_tokens": 4, "stream": stream}
    content = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: stand\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def _read(reader: asyncio.StreamReader) -> bool:
    """Read one whole answer; whether it was a 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    if length := _LENGTH.search(head):
        await reader.readexactly(int(length[1]))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return head.startswith(b"HTTP/1.1 200")
