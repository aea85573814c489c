"""Prefect's HTTP API as the guard uses it: short waits, no retries (the clerk comes again), and none of Prefect's own code.

Importing Prefect would cost the resident process seconds and 60 MB. A posted event is known to have arrived, which its own sender,
a queue in memory, cannot say.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from crossfade.errors import Unreachable

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Answer:
    """JSON of an answer, and the server's own time when it gave it (NaN when it said none)."""

    found: Any
    server_s: float


class PrefectHttp:
    """The server of `PREFECT_API_URL`, with `PREFECT_API_AUTH_STRING` or `PREFECT_API_KEY` where they are set."""

    def __init__(self) -> None:
        self._client: httpx.Client | None = None
        self._csrf: dict[str, str] = {}

    def post(self, path: str, body: object) -> Answer:
        """Post JSON; raises Unreachable for whatever keeps an answer from coming."""
        client = self._opened()
        try:
            reply = client.post(path, json=body, headers=self._csrf)
            if reply.status_code == httpx.codes.FORBIDDEN and "csrf" in reply.text.lower():
                self._csrf = _csrf(client)
                reply = client.post(path, json=body, headers=self._csrf)
            reply.raise_for_status()
            return Answer(reply.json() if reply.content else None, _date(reply))
        except httpx.HTTPStatusError as error:
            reply = error.response
            raise Unreachable(
                f"the Prefect server at {client.base_url} answers {reply.status_code} to {path}: {reply.text[:200]}"
            ) from None
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable(f"the Prefect server at {client.base_url} does not answer ({type(error).__name__})") from None

    def _opened(self) -> httpx.Client:
        url = os.environ.get("PREFECT_API_URL", "")
        if not url:
            raise Unreachable("PREFECT_API_URL is not set, so Prefect cannot be told of anything; set it and restart the guard")
        if self._client is None:
            user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
            key = os.environ.get("PREFECT_API_KEY", "")
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, auth=(user, password) if user else None, headers=headers)
        return self._client


def _csrf(client: httpx.Client) -> dict[str, str]:
    """Headers that a server with CSRF protection wants from everybody who is no browser."""
    me = str(uuid.uuid4())
    token = client.get("/csrf-token", params={"client": me}).raise_for_status().json()["token"]
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": me}


def _date(reply: httpx.Response) -> float:
    try:
        return parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return float("nan")


def epoch_s(iso: str) -> float:
    """Seconds since the epoch of a time as Prefect writes it."""
    return datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp()
