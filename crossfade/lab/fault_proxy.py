"""A proxy before an engine that breaks it on demand: slow, failing, or cut off in the middle of a stream.

    python -m crossfade.lab.fault_proxy --port 8001 --upstream 127.0.0.1:8000 --control 8002
    curl -X POST 127.0.0.1:8002/faults -d '{"delay_ms": 2000, "error_share": 0.5}'

Healthy, it hands bytes through as they come and reads only where messages begin and end: nothing is decoded, re-ordered or
re-framed. One connection to the engine per client connection, so that either side's closing reaches the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Annotated

import typer
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crossfade.lab.http_framing import Broken, Head, copy_body, read_head

_UNTOUCHED = ("/health", "/metrics")
_READ_LIMIT = 1 << 20

_UNAVAILABLE_BODY = b'{"error":{"message":"injected by the fault proxy","type":"injected","code":503}}'
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_UNAVAILABLE_BODY)
) + _UNAVAILABLE_BODY


class Faults(BaseModel):
    """What is broken now. Shares are of requests, each drawn by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_ms: float = Field(0, ge=0, description="Added before an answer's first byte.")
    error_share: float = Field(0, ge=0, le=1, description="Answered 503 without asking the engine.")
    cut_share: float = Field(0, ge=0, le=1, description="Of streamed answers: cut after their first bytes.")
    health_too: bool = Field(False, description="Break /health and /metrics as well.")


@dataclass
class FaultProxy:
    """The proxy and the faults it has now; `faults` may be replaced at any moment."""

    upstream_host: str
    upstream_port: int
    faults: Faults = field(default_factory=Faults)
    rng: random.Random = field(default_factory=random.Random)

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client connection until either side closes it."""
        try:
            engine = await asyncio.open_connection(self.upstream_host, self.upstream_port, limit=_READ_LIMIT)
        except OSError:
            writer.transport.abort()  # refused there, refused here
            return
        await _Exchange(self, reader, writer, *engine).run()


@dataclass(frozen=True)
class _Asked:
    """A request whose answer is due; `refuse` is answered by the proxy itself."""

    head: Head
    refuse: bool


@dataclass
class _Exchange:
    """One client connection and its connection to the engine."""

    proxy: FaultProxy
    from_client: asyncio.StreamReader
    to_client: asyncio.StreamWriter
    from_engine: asyncio.StreamReader
    to_engine: asyncio.StreamWriter
    due: asyncio.Queue[_Asked] = field(default_factory=asyncio.Queue)

    async def run(self) -> None:
        """Pump both ways; the first that ends, ends both: an abort must reach the engine, and a death the client."""
        pumps = {asyncio.create_task(self._requests()), asyncio.create_task(self._answers())}
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                with contextlib.suppress(Broken, OSError):
                    pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in (self.to_client, self.to_engine):
                writer.close()

    async def _requests(self) -> None:
        while head := await read_head(self.from_client):
            faults = self._faults_for(head)
            asked = _Asked(head, refuse=self.proxy.rng.random() < faults.error_share)
            if asked.refuse:
                await copy_body(head.request_body(), self.from_client, None)
                self.due.put_nowait(asked)
                continue
            self.due.put_nowait(asked)
            self.to_engine.write(head.raw)
            await copy_body(head.request_body(), self.from_client, self.to_engine)
            await self.to_engine.drain()

    async def _answers(self) -> None:
        """Answers in the order of the requests. The engine is read ahead of time, so that its closing is noticed while idle."""
        upcoming = asyncio.create_task(read_head(self.from_engine))
        try:
            while True:
                asked = await self._next_due(upcoming)
                if asked.refuse:
                    await self._wait(asked)
                    self.to_client.write(_UNAVAILABLE)
                    await self.to_client.drain()
                    continue
                head = await upcoming
                if not head or not await self._answer(asked, head):
                    return
                upcoming = asyncio.create_task(read_head(self.from_engine))
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)

    async def _next_due(self, upcoming: asyncio.Task[Head | None]) -> _Asked:
        if not self.due.empty():
            return self.due.get_nowait()
        waiting = asyncio.create_task(self.due.get())
        await asyncio.wait({waiting, upcoming}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        raise Broken("the engine closed an idle connection, or spoke without being asked")

    async def _answer(self, asked: _Asked, head: Head) -> bool:
        """Hand one answer on; false when the connection ends with it."""
        while head.interim:
            self.to_client.write(head.raw)
            following = await read_head(self.from_engine)
            if following is None:
                return False
            head = following
        await self._wait(asked)
        body = head.answer_body(asked.head)
        faults = self._faults_for(asked.head)
        self.to_client.write(head.raw)
        if body.streamed and self.proxy.rng.random() < faults.cut_share:
            self.to_client.write(await self.from_engine.read(_READ_LIMIT))
            await self.to_client.drain()
            return False
        await copy_body(body, self.from_engine, self.to_client)
        await self.to_client.drain()
        return not body.until_close

    async def _wait(self, asked: _Asked) -> None:
        delay_ms = self._faults_for(asked.head).delay_ms
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)

    def _faults_for(self, head: Head) -> Faults:
        """The faults of this moment, so that a switch also meets requests already on their way."""
        faults = self.proxy.faults
        healthy = head.path.split("?")[0] in _UNTOUCHED and not faults.health_too
        return Faults() if healthy else faults


def control(proxy: FaultProxy) -> Starlette:
    """`GET /faults` shows, `POST /faults` replaces what is broken; a field left out is healthy again."""

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            try:
                proxy.faults = Faults.model_validate_json(await request.body())
            except ValidationError as error:
                said = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
                return JSONResponse({"error": said}, status_code=422)
        return JSONResponse(proxy.faults.model_dump())

    return Starlette(routes=[Route("/faults", faults, methods=["GET", "POST"])])


async def serve(proxy: FaultProxy, *, port: int, control_port: int) -> None:
    """Listen on 127.0.0.1 for both until a signal ends it. Raises OSError when a port is taken."""
    server = await asyncio.start_server(proxy.serve_client, "127.0.0.1", port, limit=_READ_LIMIT, backlog=1024)
    try:
        settings = uvicorn.Config(control(proxy), host="127.0.0.1", port=control_port, log_level="warning")
        await uvicorn.Server(settings).serve()
    finally:
        server.close()  # and not wait_closed: it would wait for clients that stay


def main(
    port: Annotated[int, typer.Option(help="Port the router sends the target's traffic to.")],
    upstream: Annotated[str, typer.Option(help="host:port of the real engine.")],
    control: Annotated[int, typer.Option(help="Port of the control endpoint.")],
) -> None:
    """Stand between router and engine, healthy until told otherwise."""
    host, _, upstream_port = upstream.rpartition(":")
    asyncio.run(serve(FaultProxy(host, int(upstream_port)), port=port, control_port=control))


if __name__ == "__main__":
    typer.run(main)
