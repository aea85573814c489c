"""How the stand-in's endpoints answer: errors, one object, or a stream that ends its generation when the client goes away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from crossfade.lab.source_models import Catalogue, ModelFile
from crossfade.lab.source_requests import Refused
from crossfade.lab.source_runner import Finished, Piece, Runner, RunnerRefused

Result = TypeVar("Result")
Events = AsyncGenerator[Piece | Finished, None]


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Stock:
    """The models on offer and their instances, by file."""

    catalogue: Catalogue
    runners: dict[str, Runner]

    def find(self, name: str) -> tuple[str, ModelFile, Runner]:
        """Full name, file and runner; raises Refused (404) in Ollama's words."""
        found = self.catalogue.find(name)
        if not found:
            raise Refused(404, f"model '{name}' not found")
        return (*found, self.runners[str(found[1].path)])


def to_json(value: object) -> bytes:
    """Compact JSON, as both APIs send it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_response(value: object, status: int = 200) -> Response:
    """One JSON object, with Ollama's content type."""
    return Response(to_json(value), status, media_type="application/json; charset=utf-8")


def now_rfc3339() -> str:
    """The time with nanoseconds, UTC."""
    now_ns = time.time_ns()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_ns // 10**9))}.{now_ns % 10**9:09d}Z"


async def while_wanted(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`; cancels it and raises ClientGone when the client closes its connection first.

    Only after the body has been read: the next thing a client can then do is go away.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)  # its slot is free when we return


async def begin(request: Request, events: Events) -> Piece | Finished:
    """The first event, so that an error before it still has a status of its own."""
    try:
        return await while_wanted(request, anext(events))
    except RunnerRefused as error:
        raise Refused(error.status, error.text) from None


async def gather(request: Request, events: Events) -> tuple[str, list[dict[str, Any]], Finished]:
    """The whole text with its log probabilities and its end; raises Refused or ClientGone."""

    async def read() -> tuple[str, list[dict[str, Any]], Finished]:
        text: list[str] = []
        logprobs: list[dict[str, Any]] = []
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Finished):
                    return "".join(text), logprobs, event
                text.append(event.text)
                logprobs += event.logprobs
        raise RunnerRefused(500, "llama.cpp ended its stream without an end")

    try:
        return await while_wanted(request, read())
    except RunnerRefused as error:
        raise Refused(error.status, error.text) from None


async def chain(first: Piece | Finished, events: Events) -> AsyncIterator[Piece | Finished]:
    """`first`, then the rest."""
    yield first
    async for event in events:
        yield event


class EventStream(StreamingResponse):
    """Sends lines made from `events`, and closes `events` however the sending ended: that frees llama.cpp's slot."""

    def __init__(self, lines: AsyncIterator[bytes], events: Events, media_type: str) -> None:
        super().__init__(lines, media_type=media_type)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; returns when it has ended or the client has gone."""
        async with aclosing(self._events), aclosing(cast("AsyncGenerator[bytes, None]", self.body_iterator)):
            await super().__call__(scope, receive, send)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
