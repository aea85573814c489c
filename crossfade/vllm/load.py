"""Ask a vLLM as much at once as it will have to answer, and look at its engine meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crossfade.errors import CrossfadeError
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.readings import Readings

LOOK_EVERY_S = 0.25
AFTER_A_FAILURE_S = 0.2
_FAILURES_KEPT = 5


@dataclass(frozen=True)
class Look:
    """The engine at one moment, `at_s` by the monotonic clock."""

    at_s: float
    readings: Readings


@dataclass(frozen=True)
class Ridden:
    """What came of it: seconds of each answer, messages of what failed, and the looks."""

    seconds: float
    answers_s: tuple[float, ...]
    failed: int
    failures: tuple[str, ...]
    looks: tuple[Look, ...]


@dataclass
class _Tally:
    answers_s: list[float] = field(default_factory=list)
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, seconds: float) -> None:
        with self.lock:
            self.answers_s.append(seconds)

    def failure(self, error: Exception) -> None:
        with self.lock:
            self.failed += 1
            if len(self.failures) < _FAILURES_KEPT:
                self.failures.append(str(error))


def ride(
    target: VllmTarget,
    model: str,
    prompts: Sequence[str],
    *,
    at_once: int,
    hold_s: float,
    max_tokens: int,
    on_progress: Callable[[float], None],
) -> Ridden:
    """`at_once` requests under way for `hold_s` seconds, each client asking its next prompt when it has an answer.

    Requests begun in time are waited for. A failing request is counted and never raised.
    """
    tally, stop, turn = _Tally(), threading.Event(), itertools.cycle(prompts)
    began_s = time.monotonic()

    def client() -> None:
        while not stop.is_set():
            try:
                tally.answered(target.complete(model, next(turn), max_tokens=max_tokens).seconds)
            except CrossfadeError as error:
                tally.failure(error)
                stop.wait(AFTER_A_FAILURE_S)

    clients = [threading.Thread(target=client, name=f"crossfade-load-{number}", daemon=True) for number in range(at_once)]
    looks = [_look(target)]
    for one in clients:
        one.start()
    try:
        while (gone_s := time.monotonic() - began_s) < hold_s:
            on_progress(gone_s)
            stop.wait(min(LOOK_EVERY_S, hold_s - gone_s))
            looks.append(_look(target))
    finally:
        stop.set()
    ended_s = time.monotonic()
    for one in clients:
        one.join(target.timeout_s + 5)
    return Ridden(
        seconds=ended_s - began_s,
        answers_s=tuple(tally.answers_s),
        failed=tally.failed,
        failures=tuple(tally.failures),
        looks=tuple(look for look in (*looks, _look(target)) if look is not None),
    )


def _look(target: VllmTarget) -> Look | None:
    """None where it does not even show its metrics: the requests' own failures say why."""
    try:
        return Look(time.monotonic(), target.readings())
    except CrossfadeError:
        return None
