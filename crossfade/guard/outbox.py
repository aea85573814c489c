"""What others are still to be told of a breach. On disk, so that neither their absence nor our death loses it."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from crossfade.guard.alerts import Alert
from crossfade.guard.saying import say
from crossfade.guard.vitals import Cause
from crossfade.judge.evidence import Interval
from crossfade.plan.model import GuardPlan


class Notice(BaseModel):
    """One breach and what was done. `guard` and `intervals` are what it was judged on, so that it can be judged again.

    One seen by a webhook rests on somebody else's judgement: its `alert`. Attempt 0 is the one under way, when ours was not known.
    """

    model_config = ConfigDict(frozen=True)

    route: str
    migration: str
    attempt: int
    rehearsal: bool
    at_s: float
    reason: str
    numbers: dict[str, float] = {}
    seconds: float = 0.0
    problem: str = ""
    guard: GuardPlan | None = None
    intervals: tuple[Interval, ...] = ()
    seen_by: Cause = "poll"
    alert: Alert | None = None
    journaled: bool = False
    announced: bool = False

    @property
    def key(self) -> str:
        """Names this breach for ever, for file and events alike."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.route} {self.at_s}"))


class Outbox:
    """Notices that journal or Prefect have not taken yet; one file each. Safe between threads of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._waiting: dict[str, Notice] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                notice = Notice.model_validate_json(path.read_text())
                self._waiting[notice.key] = notice
            except (OSError, ValidationError):
                path.rename(path.with_suffix(".unreadable"))
                say("notice_unreadable", file=path.with_suffix(".unreadable"))

    def put(self, notice: Notice) -> None:
        """Keep a notice, or its newer version. A full disk is survived in memory."""
        with self._lock:
            self._waiting[notice.key] = notice
        try:
            self._write(notice)
        except OSError as error:
            say("notice_only_in_memory", route=notice.route, why=str(error))

    def waiting(self) -> list[Notice]:
        """What is still to be told, oldest first."""
        with self._lock:
            return sorted(self._waiting.values(), key=lambda notice: notice.at_s)

    def unwritten(self) -> int:
        """How many the journal has not taken."""
        return sum(not notice.journaled for notice in self.waiting())

    def unannounced(self) -> int:
        """How many Prefect has not taken."""
        return sum(not notice.announced for notice in self.waiting())

    def settle(self, notice: Notice) -> None:
        """Keep the newer version of a notice, or drop it when everybody has taken it."""
        if not (notice.journaled and notice.announced):
            self.put(notice)
            return
        with self._lock:
            self._waiting.pop(notice.key, None)
        self._file(notice).unlink(missing_ok=True)

    def _write(self, notice: Notice) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._file(notice).with_suffix(".tmp")
        with temporary.open("w") as file:
            file.write(notice.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file(notice))

    def _file(self, notice: Notice) -> Path:
        return self._folder / f"{notice.key}.json"
