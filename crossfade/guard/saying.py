"""One structured line per decision, never per poll."""

from __future__ import annotations

import json
import logging

_LOG = logging.getLogger("crossfade.guard")


def say(event: str, **facts: object) -> None:
    """Log `event` with its facts as JSON."""
    _LOG.info("%s %s", event, json.dumps(facts, default=str))
