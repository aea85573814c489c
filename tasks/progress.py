"""Progress of long work: a bar in the Prefect UI, a line in the log now and then."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from crossfade.ports import Clock
from tasks.artifacts import artifact_key


class Progress:
    """Reports a share of work done, at most once in two seconds, so that a fast loop costs nothing."""

    def __init__(self, migration: str, stage: str, clock: Clock) -> None:
        self._clock, self._stage, self._last_s = clock, stage, clock.now_s()
        self._log = get_run_logger()
        key = artifact_key(migration, f"{stage}-progress")
        self._artifact = self._shown(lambda: create_progress_artifact(0.0, key=key, description=stage))

    def at(self, done: float, total: float, what: str) -> None:
        """`done` of `total`, in any unit; `what` is the sentence beside the bar."""
        now_s = self._clock.now_s()
        if now_s - self._last_s < 2 and done < total:
            return
        self._last_s = now_s
        percent = 100.0 * done / total if total else 100.0
        if isinstance(artifact := self._artifact, UUID):
            self._shown(lambda: update_progress_artifact(artifact, progress=min(percent, 100.0), description=what))
        self._log.info("%s: %.0f %%, %s", self._stage, percent, what)

    def _shown(self, draw: Callable[[], object]) -> object:
        """What Prefect made of the bar. A server that is away for a moment must not end hours of download for want of one."""
        try:
            return draw()
        except Exception as error:
            self._log.warning("%s: the bar was not drawn: %s", self._stage, error)
            return None
