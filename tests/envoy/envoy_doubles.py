"""A small engine on a socket, for the faults a real engine cannot be made to show on demand."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


class EngineDouble:
    """Answers everything with its own name. `status` and `healthy` make it fail; `gate` holds streams back after their first event."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name
        self.status = 200
        self.healthy = True
        self.seen: list[tuple[str, str, str]] = []  # method, path, Host header
        self.gate = asyncio.Event()
        # with the protocol named asyncio turns Nagle off; else each answer waits 40 ms for a delayed acknowledgement
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        healthy = [Route(path, self._healthy) for path in ("/health", "/api/version")]
        app = Starlette(routes=[*healthy, Route("/{rest:path}", self._answer, methods=["GET", "POST", "DELETE", "HEAD"])])
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> EngineDouble:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the double did not start"
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """From here on connections are refused."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def open_gate(self) -> None:
        """Let held streams finish."""
        self._loop.call_soon_threadsafe(self.gate.set)

    def _serve(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))

    async def _healthy(self, _: Request) -> Response:
        return JSONResponse({"version": "double"}, status_code=200 if self.healthy else 500)

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append((request.method, request.url.path, request.headers["host"]))
        if self.status != 200:
            return JSONResponse({"error": "as told"}, status_code=self.status)
        if b'"stream"' in body:
            return StreamingResponse(self._events(), media_type="text/event-stream")
        return JSONResponse({"engine": self.name, "bytes": len(body)})

    async def _events(self) -> AsyncIterator[bytes]:
        yield f"data: {self.name} first\n\n".encode()
        await self.gate.wait()
        for number in range(20):
            yield f"data: {self.name} {number}\n\n".encode()
        yield b"data: [DONE]\n\n"
