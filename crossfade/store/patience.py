"""A connection to PostgreSQL that does not wait for ever.

The server's own time-outs end a long statement, and TCP's a broken network. Neither ends the wait for a server that is frozen or on a
paused machine: its kernel goes on acknowledging. So each wait is cut from this side a little later.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any

from psycopg import Connection


class PatientConnection(Connection[Any]):
    """Waits `longest_s` for an answer, then closes the socket, which psycopg reports as an OperationalError."""

    longest_s = 12.0

    def wait(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever psycopg hands on
        """Every wait of psycopg for the server goes through here."""
        cut = threading.Timer(self.longest_s, _cut, [self.fileno()])
        cut.daemon = True
        cut.start()
        try:
            return super().wait(*arguments, **named)
        finally:
            cut.cancel()


def _cut(descriptor: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as theirs:
        theirs.shutdown(socket.SHUT_RDWR)
