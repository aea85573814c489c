"""All files of a repository at once, watched from the caller's thread: progress, and an end to transfers that hang."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.errors import Unreachable
from crossfade.hub.access import Access
from crossfade.hub.failures import explain
from crossfade.hub.repository import RepositoryFile, ResolvedRepository
from crossfade.hub.stream import FileStream, Stopped
from crossfade.weights import WeightFile

PARALLEL = 6
_POLL_S = 0.5
_SPEED_OVER_POLLS = 20


@dataclass(frozen=True)
class Progress:
    """Bytes here of bytes wanted; what an earlier, interrupted try left counts as done. `bytes_per_s` is over the last ten seconds.

    `waits_for` is empty, or whoever fetches the same files now: nothing is fetched twice.
    """

    bytes_done: int
    bytes_total: int
    bytes_per_s: float = field(default=0.0, compare=False)
    waits_for: str = ""

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at this speed; None while nothing is known of the speed."""
        if self.bytes_done >= self.bytes_total:
            return 0.0
        return (self.bytes_total - self.bytes_done) / self.bytes_per_s if self.bytes_per_s > 0 else None


class _Meter:
    """Bytes that are here, told by many threads."""

    def __init__(self, total: int) -> None:
        self._lock, self._total = threading.Lock(), total
        self._done = self._best = 0
        self._seen: deque[tuple[float, int]] = deque(maxlen=_SPEED_OVER_POLLS)

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count

    @property
    def done(self) -> int:
        with self._lock:
            return self._done

    def progress(self, now_s: float) -> Progress:
        """Never falls, also when a file must be begun anew."""
        done = self.done
        self._seen.append((now_s, done))
        first_s, first = self._seen[0]
        span_s = now_s - first_s
        self._best = max(self._best, min(done, self._total))
        return Progress(self._best, self._total, max(0.0, (done - first) / span_s) if span_s > 0 else 0.0)


def transfer(
    resolved: ResolvedRepository, folder: Path, on_progress: Callable[[Progress], None], access: Access, *, stalled_after_s: float
) -> Mapping[str, WeightFile]:
    """Every file in `folder`, with its size and hash as it arrived; whether they are right is not judged here.

    Raises what `explain` makes of the first failure, and Unreachable when nothing grew for `stalled_after_s`. In both cases what has
    arrived stays, and a thread that hangs is left behind, because Python cannot end it.
    """
    meter, stop = _Meter(resolved.total_bytes), threading.Event()
    work = {file.path: Future[WeightFile]() for file in resolved.files}
    _start_workers(work, resolved, lambda file: FileStream(resolved, file, folder, access, meter.add, stop).fetch())
    try:
        _watch(work, meter, on_progress, resolved=resolved, access=access, stalled_after_s=stalled_after_s)
    finally:
        stop.set()
    return {path: future.result() for path, future in work.items()}


def _watch(
    work: Mapping[str, Future[WeightFile]],
    meter: _Meter,
    on_progress: Callable[[Progress], None],
    *,
    resolved: ResolvedRepository,
    access: Access,
    stalled_after_s: float,
) -> None:
    grown_s, before, pending = time.monotonic(), -1, set(work.values())
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when="FIRST_EXCEPTION")
        for error in (future.exception() for future in done):
            if isinstance(error, Exception):
                raise explain(error, resolved.repo, resolved.commit, access) from None
        now_s = time.monotonic()
        if meter.done != before or done:
            grown_s, before = now_s, meter.done
        on_progress(meter.progress(now_s))
        if pending and now_s - grown_s > stalled_after_s:
            raise Unreachable(
                f"{access.host} sent nothing of {resolved.repo} for {stalled_after_s:.0f} s, at {before} of {resolved.total_bytes} bytes. "
                "What has arrived is kept; run the stage again.",
                delay_s=30.0,
            )


def _start_workers(
    work: Mapping[str, Future[WeightFile]], resolved: ResolvedRepository, fetch: Callable[[RepositoryFile], WeightFile]
) -> None:
    """Daemon threads: they must not keep the process alive when the caller has given up. The largest files begin first."""
    waiting: queue.SimpleQueue[RepositoryFile] = queue.SimpleQueue()
    for file in sorted(resolved.files, key=lambda file: -file.bytes):
        waiting.put(file)

    def run() -> None:
        while True:
            try:
                file = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                work[file.path].set_result(fetch(file))
            except Stopped:
                return
            except BaseException as error:
                work[file.path].set_exception(error)

    for number in range(min(PARALLEL, len(resolved.files))):
        threading.Thread(target=run, name=f"crossfade-download-{number}", daemon=True).start()
