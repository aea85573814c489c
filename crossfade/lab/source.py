"""A stand-in for Ollama in the lab: its API over real llama.cpp, for machines where no Ollama can be installed.

    python -m crossfade.lab.source --port 11434 --model tiny=weights.gguf --model bot:v1=weights.gguf

It never passes for Ollama: every response carries `X-Crossfade-Stand-In: llama.cpp` and its version says so too.
Faithful are names, statuses, error texts, defaults, streams, loading and unloading, and the OpenAI endpoints. Missing are
pulling and making models, embeddings, Go templates, `context`, per-request `num_ctx`, dropping old messages of a chat too
long for the window (it answers 400 as Ollama does for one long message), and the full queue's 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Annotated, cast

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from crossfade.errors import UserError
from crossfade.lab.source_answers import ClientGone, Stock, json_response
from crossfade.lab.source_models import Catalogue
from crossfade.lab.source_native import native_routes
from crossfade.lab.source_openai import openai_routes
from crossfade.lab.source_requests import Refused
from crossfade.lab.source_runner import Runner

STAND_IN_HEADER = ("X-Crossfade-Stand-In", "llama.cpp")
UNLOAD_CHECK_S = 0.25
LOCAL_SUFFIXES = (".localhost", ".local", ".internal")


def create_app(catalogue: Catalogue) -> ASGIApp:
    """The stand-in's application. Models are loaded on first use and freed when the application ends."""
    stock = Stock(catalogue, {str(file.path): Runner(file) for file in catalogue.files()})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        unloading = asyncio.create_task(_unload_expired(stock))
        yield
        unloading.cancel()

    routes = [*native_routes(stock), *openai_routes(stock)]
    handlers = {Refused: _refused, ClientGone: _client_gone, HTTPException: _no_route}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return _LocalHostsOnly(app)


class _LocalHostsOnly:
    """Ollama on a loopback address answers 403 without a body to a Host header that is not local: routers must not send one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_local(Request(scope).headers.get("host", "")):
            await Response(status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_local(host: str) -> bool:
    name = host.removeprefix("[").split("]")[0] if host.startswith("[") else host.rsplit(":", 1)[0]
    if name in ("", "localhost", socket.gethostname()) or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


async def _unload_expired(stock: Stock) -> None:
    while True:
        await asyncio.sleep(UNLOAD_CHECK_S)
        for runner in stock.runners.values():
            await runner.unload_if_expired()


async def _refused(request: Request, raised: Exception) -> Response:
    error = cast("Refused", raised)
    if not request.url.path.startswith("/v1/"):
        return json_response({"error": error.message}, error.status)
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(error.status, "api_error")
    return json_response({"error": {"message": error.message, "type": kind, "param": None, "code": None}}, error.status)


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


async def _no_route(_: Request, raised: Exception) -> Response:
    error = cast("HTTPException", raised)
    text = {404: "404 page not found", 405: "405 method not allowed"}.get(error.status_code, error.detail)
    return PlainTextResponse(text, error.status_code)


class _Server(uvicorn.Server):
    """Says when it is ready, and stops at once: there is nothing to save, and clients in the lab must see a dead source."""

    ready_line = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections and print the ready line."""
        await super().startup(sockets)
        typer.echo(self.ready_line)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave without waiting for answers under way."""
        del sig, frame
        os._exit(0)


def serve(catalogue: Catalogue, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        create_app(catalogue),
        headers=[STAND_IN_HEADER],
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=86_400,  # Ollama never closes an idle connection, and a router that pools them relies on it
    )
    # asyncio warns of every piece written between a client's leaving and our hearing of it: hundreds of lines for one client
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    server = _Server(config)
    names = ", ".join(name for name, _ in catalogue.newest_first())
    server.ready_line = f"Ollama stand-in (llama.cpp) on http://127.0.0.1:{listener.getsockname()[1]} with {names}"
    server.run(sockets=[listener])


def main(
    port: Annotated[int, typer.Option(help="Loopback port; 0 takes a free one and prints it.")],
    model: Annotated[list[str], typer.Option(help="NAME=FILE.gguf; again for more models, or more names of one file.")],
) -> None:
    """Serve Ollama's API over llama.cpp on 127.0.0.1."""
    try:
        catalogue = Catalogue(_named_file(text) for text in model)
        listener = _listen(port)
    except UserError as error:
        typer.echo(f"crossfade.lab.source: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    serve(catalogue, listener)


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals:
        raise UserError(f"--model {text}: write NAME=FILE.gguf.")
    return name, Path(file)


def _listen(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it each small answer waits 40 ms
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}. Choose another --port.") from None
    listener.listen(1024)
    return listener


if __name__ == "__main__":
    typer.run(main)
