"""Bring a repository into the store, and prove that it arrived as the hub records it.

huggingface_hub names the files and their hashes; the bytes are fetched here, because the library begins a large file anew after a
killed process and never hashes what it received. Files come in parallel, each hashed as it comes, each continued where a broken
connection or a killed process left it.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub

from crossfade.errors import PermanentError, WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.failures import offline
from crossfade.hub.repository import RepositoryFile, ResolvedRepository, resolve
from crossfade.hub.room import check_room
from crossfade.hub.stream import PARTS, same
from crossfade.hub.transfer import Progress, transfer
from crossfade.weights import MANIFEST, WeightFile, WeightsManifest, folder_for, seal, verify

_LOOK_AGAIN_S = 1.0
_STALLED_AFTER_S = 600.0  # above the hub's longest Retry-After (300 s)


def fetch(
    repo: str,
    revision: str,
    weights_root: Path,
    on_progress: Callable[[Progress], None],
    *,
    copies: int = 1,
    access: Access | None = None,
) -> WeightsManifest:
    """Resolve, check the room for `copies`, download. A commit that is here and good is returned without a request, also offline.

    Raises what `resolve`, `check_room` and `download` raise.
    """
    access = access or Access.from_environment()
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        folder = folder_for(weights_root, repo, revision)
        try:
            return verify(folder)
        except WeightsInvalid:
            if access.offline and (folder / MANIFEST).exists():
                raise
            # not here yet, or broken: the download brings or mends it
    resolved = resolve(repo, revision, access)
    check_room(resolved, weights_root, copies)
    return download(resolved, weights_root, on_progress, access=access)


def download(
    resolved: ResolvedRepository,
    weights_root: Path,
    on_progress: Callable[[Progress], None],
    *,
    access: Access | None = None,
    stalled_after_s: float = _STALLED_AFTER_S,
) -> WeightsManifest:
    """The weights, complete and checked, in `folder_for(weights_root, repo, commit)`. Weights that are there and good cause no request.

    `on_progress` is called in the caller's thread, about twice a second and once at the end. Raises WeightsInvalid (a file differs
    from the hub's record; it has been removed, so that the next try fetches it), NotEnoughRoom (disk full), Unreachable or
    TemporaryError (trying again goes on from there). While another process downloads the same commit, this one waits for it.
    """
    access = access or Access.from_environment()
    folder = folder_for(weights_root, resolved.repo, resolved.commit)
    with _alone_in(folder, lambda: on_progress(Progress(0, resolved.total_bytes, waits_for="another download of the same commit"))):
        manifest = _present(folder)
        if manifest is None:
            if access.offline:
                raise offline(resolved.repo, resolved.commit)
            (folder / MANIFEST).unlink(missing_ok=True)
            arrived = transfer(resolved, folder, on_progress, access, stalled_after_s=stalled_after_s)
            files = _checked(resolved, folder, arrived, access)
            shutil.rmtree(folder / PARTS, ignore_errors=True)
            made_by = f"huggingface_hub {huggingface_hub.__version__}"
            manifest = seal(folder, WeightsManifest(repo=resolved.repo, commit=resolved.commit, made_by=made_by, files=files))
    on_progress(Progress(manifest.total_bytes, manifest.total_bytes))
    return manifest


def _present(folder: Path) -> WeightsManifest | None:
    try:
        return verify(folder)
    except WeightsInvalid:
        return None


def _checked(resolved: ResolvedRepository, folder: Path, arrived: Mapping[str, WeightFile], access: Access) -> tuple[WeightFile, ...]:
    """Sizes and hashes of what arrived, equal to the hub's record; a file that differs is removed."""
    files = tuple(arrived[file.path] for file in resolved.files)
    broken = [(file, actual) for file, actual in zip(resolved.files, files, strict=True) if not same(file, actual, folder)]
    for file, _ in broken:
        (folder / file.path).unlink()
    if broken:
        file, actual = broken[0]
        more = f" and {len(broken) - 1} more" if broken[1:] else ""
        raise WeightsInvalid(
            f"{file.path}{more} of {resolved.repo} arrived broken: {actual.bytes} bytes with sha256 {actual.sha256[:12]}..., "
            f"but {access.host} records {file.bytes} bytes with {_recorded(file)}. It has been removed; run the stage again to fetch it "
            "anew. If it comes broken again, a proxy or mirror on the way changes files."
        )
    return files


def _recorded(file: RepositoryFile) -> str:
    return f"sha256 {file.sha256[:12]}..." if file.sha256 else f"git hash {file.git_sha1[:12]}..."


@contextmanager
def _alone_in(folder: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Make the folder and hold its lock, once nobody else does. The kernel drops the lock when the process dies, however it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise PermanentError(f"Cannot write {error.filename}: {error.strerror}. Make the store: folder writable.") from None
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waits()
                time.sleep(_LOOK_AGAIN_S)
        yield
