"""Connections of the guard's ear, counted and timed: a client that opens many and says nothing must not use up our file descriptors.

A trip opens files, so running out of descriptors would be running out of rollbacks.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 100
SILENT_S = 20.0
"""How long a connection may stay without a finished answer; longer than the body may take."""


class BoundedConnection(H11Protocol):
    """uvicorn's own HTTP, less connections that come in too great a number or never say anything whole."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or drop it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
            return
        self.loop.call_later(SILENT_S, self._hang_up)

    def _hang_up(self) -> None:
        """Between two answers: clients that work connect again."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.loop.call_later(1.0, self._hang_up)
        else:
            self.transport.close()
