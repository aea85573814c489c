"""huggingface_hub at work in a thread, watched from the caller's: progress, and an end to transfers that hang."""

from __future__ import annotations

import glob
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # public, but not re-exported by name

from crossfade.errors import Unreachable
from crossfade.hub.access import Access
from crossfade.hub.failures import explain
from crossfade.hub.repository import ResolvedRepository

_POLL_S = 0.5


@dataclass(frozen=True)
class Progress:
    """Bytes on disk of bytes wanted. What an earlier, interrupted try left counts as done."""

    bytes_done: int
    bytes_total: int


def transfer(
    resolved: ResolvedRepository, folder: Path, on_progress: Callable[[Progress], None], access: Access, *, stalled_after_s: float
) -> None:
    """Return when the library says that every file is in `folder`; nothing is checked here.

    Raises what `explain` makes of the library's errors, and Unreachable when nothing grew for `stalled_after_s`; a thread
    that hangs is left behind then, because Python cannot end it.
    """
    _remove_part_files(folder)
    disable_progress_bars()
    work = _in_background(lambda: _snapshot(resolved, folder, access))
    grown_s, best = time.monotonic(), -1
    while work not in wait([work], timeout=_POLL_S).done:
        done = _bytes_on_disk(resolved, folder)
        if done > best:
            grown_s, best = time.monotonic(), done
        on_progress(Progress(min(done, resolved.total_bytes), resolved.total_bytes))
        if time.monotonic() - grown_s > stalled_after_s:
            raise Unreachable(
                f"{access.host} sent nothing of {resolved.repo} for {stalled_after_s:.0f} s, at {done} of {resolved.total_bytes} bytes. "
                "Files that are complete are kept; run the stage again.",
                delay_s=30.0,
            )
    error = work.exception()
    if isinstance(error, Exception):
        raise explain(error, resolved.repo, resolved.commit, access) from None
    work.result()


def _snapshot(resolved: ResolvedRepository, folder: Path, access: Access) -> None:
    huggingface_hub.snapshot_download(
        resolved.repo,
        revision=resolved.commit,
        local_dir=folder,
        allow_patterns=[glob.escape(file.path) for file in resolved.files],
        endpoint=access.endpoint,
        token=access.token or False,
        library_name="crossfade",
    )


def _in_background(work: Callable[[], None]) -> Future[None]:
    """A daemon thread: it must not keep the process alive when the caller has given up."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="crossfade-download", daemon=True).start()
    return future


def _bytes_on_disk(resolved: ResolvedRepository, folder: Path) -> int:
    return sum(_size(path) for path in (*(folder / file.path for file in resolved.files), *_part_files(folder)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _part_files(folder: Path) -> list[Path]:
    return list((folder / ".cache" / "huggingface" / "download").glob("*.incomplete"))


def _remove_part_files(folder: Path) -> None:
    """A killed process leaves them, up to the whole model in size, and the library never uses them again."""
    for path in _part_files(folder):
        path.unlink(missing_ok=True)
