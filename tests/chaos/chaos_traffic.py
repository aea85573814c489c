"""Engines and users of the chaos tests. Whatever a user does not get whole is a failure, and is remembered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from typing import ClassVar

from envoy_wire import Loop, Wire, WireEngine

SLOW_S = 0.6


def _reply(body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)


class Engine(WireEngine):
    """Keeps every model warm that it is asked to; the target takes its time over models whose names say so."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.loaded: set[str] = set()

    def answer(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /api/generate"):
            self.loaded.add(json.loads(body)["model"])
            transport.write(_reply({}))
        elif head.startswith(b"GET /api/ps"):
            held = [{"name": model, "expires_at": "2318-01-01T00:00:00Z"} for model in self.loaded]
            transport.write(_reply({"models": held}))
        elif self.name == "target" and b'"slow' in body:
            answer = super().answer
            asyncio.get_running_loop().call_later(SLOW_S, answer, transport, head, body)
        else:
            super().answer(transport, head, body)


class Users:
    """Ask for every model as fast as they can until each was asked `_FIRST` times, then now and then until told to stop."""

    _CONNECTIONS, _FIRST, _PAUSE_S = 8, 40, 1.2

    def __init__(self, address: str, models: Sequence[str]) -> None:
        self.asked, self.failed = 0, list[str]()
        self.cut = list[str]()  # after their first byte: whoever has begun to answer must finish
        self._address, self._stopping = address, asyncio.Event()
        self._loop = Loop()
        quick = [model for model in models if not model.startswith("slow")]
        turns = [quick[first :: self._CONNECTIONS] for first in range(self._CONNECTIONS)]
        turns += [[model] for model in models if model.startswith("slow")]  # so that nobody else waits with them
        self._clients: list[Future[None]] = [self._loop.begin(self._ask(turn)) for turn in turns]

    def stop(self) -> None:
        self._loop.call(self._stopping.set)
        for client in self._clients:
            client.result(30)
        self._loop.close()

    async def _ask(self, models: Sequence[str]) -> None:
        wire, rounds = Wire(self._address), 0
        while not self._stopping.is_set():
            for model in models:
                await self._once(wire, model)
            rounds += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._PAUSE_S if rounds > self._FIRST else 0.02)
        wire.close()

    async def _once(self, wire: Wire, model: str) -> None:
        answer = await wire.ask(model=model)
        self.asked += 1
        if answer.engine not in ("source", "target"):
            self.failed.append(f"{time.time():.3f} {model}: {answer.engine}")


class StreamingUsers(Users):
    """Several for each model, who read answers token by token: a killed engine has some of them in the middle of one."""

    _FIRST, _PAUSE_S, _EACH = 0, 0.3, 3
    _ASKED: ClassVar[dict[str, object]] = {
        "messages": [{"role": "user", "content": "What is 4+6?"}],
        "max_tokens": 96,
        "ignore_eos": True,
        "stream": True,
        "events": 8,  # for the source on bare sockets; vLLM does not know it
    }

    def __init__(self, address: str, models: Sequence[str]) -> None:
        self._CONNECTIONS = self._EACH * len(models)
        super().__init__(address, [*models] * self._EACH)

    async def _once(self, wire: Wire, model: str) -> None:
        answer = await wire.ask(model=model, **self._ASKED)
        self.asked += 1
        ended = b"[DONE]" in answer.body or b'"done": true' in answer.body
        if answer.status != HTTPStatus.OK or not (answer.whole and ended):
            what = self.cut if answer.status == HTTPStatus.OK and not answer.whole else self.failed
            what.append(f"{time.time():.3f} {model}: {answer.status or 'no answer'} {answer.body[-80:]!r}")
