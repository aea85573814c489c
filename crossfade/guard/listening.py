"""The guard's ear: alert webhooks, `/healthz` and `/metrics` over HTTP, in a thread that the poll never waits for."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossfade.guard.reception import Reception, Reply
from crossfade.guard.saying import Troubles, say
from crossfade.guard.settings import GuardSettings
from crossfade.guard.vitals import Vitals
from crossfade.ports import Clock

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LONGEST_BODY = 1 << 20
"""Bytes of alerts taken in one request; Prometheus sends at most a few hundred alerts at once."""

PATHS = ("/alerts", "/webhook", "/api/v2/alerts")
"""Where alerts may be posted; the last is where Prometheus itself posts them."""

_BODY_S = 10.0
_AGAIN_S = 5.0


@dataclass(frozen=True)
class Ear:
    """Serves one guard. A taken address is tried again every few seconds: the guard guards without an ear as well."""

    settings: GuardSettings
    reception: Reception
    vitals: Vitals
    clock: Clock
    troubles: Troubles = field(default_factory=Troubles)

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop`."""
        import uvicorn

        from crossfade.guard.connections import BoundedConnection

        while not stop.is_set():
            try:
                with self._bound() as listening:
                    address = "{}:{}".format(*listening.getsockname()[:2])
                    self.vitals.listens = address
                    self.troubles.over("can_listen_again", "webhook")
                    say("listening", address=address, token=bool(self.settings.token.get_secret_value()))
                    config = uvicorn.Config(
                        self.app(), http=BoundedConnection, ws="none", lifespan="off", log_config=None, access_log=False
                    )
                    server = uvicorn.Server(config)
                    threading.Thread(target=_end_with, args=(stop, server), daemon=True, name="guard-ear-end").start()
                    server.run(sockets=[listening])
            except Exception as error:  # whatever it was, a guard that is deaf for ever would be worse
                self.troubles.begins("cannot_listen", "webhook", f"{type(error).__name__}: {error}")
            self.vitals.listens = ""
            stop.wait(_AGAIN_S)

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        return socket.create_server((self.settings.host, self.settings.port), family=family)

    def app(self) -> Starlette:
        """The ASGI application."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        return Starlette(
            routes=[
                *(Route(path, self._alerts, methods=["POST"]) for path in PATHS),
                Route("/healthz", self._healthz),
                Route("/metrics", self._metrics),
            ]
        )

    async def _alerts(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import Response

        reply = self._refused(request) or await _body(request)
        if isinstance(reply, bytes):
            reply = await run_in_threadpool(self.reception.receive, reply)
        self.vitals.webhooks.labels(str(reply.status)).inc()
        if reply.why:
            self.troubles.begins("webhook_refused", f"{reply.status} {reply.why}", reply.why)
        headers = {"WWW-Authenticate": "Bearer"} if reply.status == 401 else {}
        return Response(reply.body, reply.status, headers, "application/json")

    def _refused(self, request: Request) -> Reply | None:
        wanted = self.settings.token.get_secret_value()
        if wanted:
            kind, _, brought = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(brought.strip().encode("latin-1"), wanted.encode()):
                return Reply(401, "the token is missing or wrong; send 'Authorization: Bearer ...'")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # a browser sends other types to any address without asking first, and this one may be its user's own machine
            return Reply(415, "send application/json")
        return None

    async def _healthz(self, _: Request) -> Response:
        from starlette.responses import Response

        health = self.vitals.health(self.clock.now_s())
        document = {"ok": health.well, "reasons": health.reasons, "notes": health.notes}
        return Response(json.dumps(document), 200 if health.well else 503, media_type="application/json")

    async def _metrics(self, _: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST
        from starlette.responses import Response

        return Response(self.vitals.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _body(request: Request) -> bytes | Reply:
    body = b""
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LONGEST_BODY:
                    return Reply(413, f"the body is longer than {LONGEST_BODY} bytes")
    except TimeoutError:
        return Reply(408, f"the body did not arrive within {_BODY_S:g} s")
    return body


def _end_with(stop: threading.Event, server: uvicorn.Server) -> None:
    stop.wait()
    server.should_exit = True
