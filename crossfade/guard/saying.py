"""One structured line per decision, never per poll."""

from __future__ import annotations

import json
import logging
import threading

_LOG = logging.getLogger("crossfade.guard")

_REMEMBERED = 256


def say(event: str, **facts: object) -> None:
    """Log `event` with its facts as JSON."""
    _LOG.info("%s %s", event, json.dumps(facts, default=str))


class Troubles:
    """Says a trouble when it begins, when it changes and when it is over, and not each time it is met. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def begins(self, event: str, whom: str, why: str) -> None:
        """Say `event` unless this very trouble of `whom` was said already."""
        with self._lock:
            said = self._known.pop(whom, None) == why
            self._known[whom] = why
            while len(self._known) > _REMEMBERED:  # whoever invents names must not fill our memory
                del self._known[next(iter(self._known))]
        if not said:
            say(event, whom=whom, why=why)

    def over(self, event: str, whom: str) -> None:
        """Say `event` if `whom` was in trouble."""
        with self._lock:
            was = self._known.pop(whom, None)
        if was is not None:
            say(event, whom=whom)
