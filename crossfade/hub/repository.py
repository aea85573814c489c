"""A repository at one commit, with everything that can be known before the first byte of weights is fetched."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from crossfade.errors import WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.failures import explain, offline
from crossfade.hub.selection import select
from crossfade.weights import MANIFEST, folder_for, load_manifest

_CONFIG = "config.json"
_ASK_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class RepositoryFile:
    """A file as the hub records it. Large files carry `sha256`, small ones the git blob hash `git_sha1`; the other is empty."""

    path: str
    bytes: int
    sha256: str
    git_sha1: str

    def recorded(self, path: Path) -> bool:
        """Whether a file on disk (a small one: it is read whole) is what the hub recorded."""
        content = path.read_bytes()
        if self.sha256:
            return hashlib.sha256(content).hexdigest() == self.sha256
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False)
        return blob.hexdigest() == self.git_sha1


@dataclass(frozen=True)
class ResolvedRepository:
    """The files that will be fetched, pinned to `commit`. `stored` is where they lie already, when nobody may be asked for them."""

    repo: str
    commit: str
    files: tuple[RepositoryFile, ...]
    stored: Path | None = None

    @property
    def total_bytes(self) -> int:
        """Sum of all files to fetch."""
        return sum(file.bytes for file in self.files)


def resolve(repo: str, revision: str, access: Access | None = None, *, store: Path | None = None) -> ResolvedRepository:
    """Ask the hub what `revision` is now. One request; for a gated repository a second, to learn whether we are let in.

    Offline nobody is asked, and the answer is what lies in `store` for that very commit. Raises WeightsInvalid (missing, gated, no
    safetensors, refused token, not in the store), TemporaryError or Unreachable.
    """
    access = access or Access.from_environment()
    if access.offline:
        return _in_store(repo, revision, store)
    try:
        info = access.api().model_info(repo, revision=revision, files_metadata=True, timeout=_ASK_TIMEOUT_S)
        files = _files(repo, info, access)
        if info.gated:
            _knock(repo, info.sha or revision, access)
    except Exception as error:  # huggingface_hub has no common root for what it raises
        raise explain(error, repo, revision, access) from None
    return ResolvedRepository(repo, _commit(info, access), files)


def read_config(resolved: ResolvedRepository, access: Access | None = None) -> Mapping[str, object]:
    """The model's config.json at the commit, checked by hash. Nothing else is fetched and nothing is kept.

    Raises WeightsInvalid when it is broken, Unreachable or TemporaryError.
    """
    if resolved.stored:
        return _as_config(resolved.repo, (resolved.stored / _CONFIG).read_bytes())
    access = access or Access.from_environment()
    try:
        with tempfile.TemporaryDirectory(prefix="crossfade-config-") as folder:
            path = Path(access.api().hf_hub_download(resolved.repo, _CONFIG, revision=resolved.commit, local_dir=folder))
            good = any(file.path == _CONFIG and file.recorded(path) for file in resolved.files)
            text = path.read_bytes()
    except Exception as error:  # huggingface_hub has no common root for what it raises
        raise explain(error, resolved.repo, resolved.commit, access) from None
    if not good:
        raise WeightsInvalid(
            f"{_CONFIG} of {resolved.repo} arrived broken from {access.host}. Run the stage again; a proxy or mirror may change files."
        )
    return _as_config(resolved.repo, text)


def _as_config(repo: str, text: bytes) -> Mapping[str, object]:
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise WeightsInvalid(f"{_CONFIG} of {repo} is not a JSON object; it was published broken. Use another revision.")
    return config


def _in_store(repo: str, revision: str, store: Path | None) -> ResolvedRepository:
    """By its manifest alone: the files themselves are hashed when the download finds that it has nothing to do."""
    folder = folder_for(store, repo, revision) if store and re.fullmatch(r"[0-9a-f]{40}", revision) else None
    if folder is None or not (folder / MANIFEST).exists():
        raise offline(repo, revision)
    files = tuple(RepositoryFile(file.path, file.bytes, file.sha256, "") for file in load_manifest(folder).files)
    return ResolvedRepository(repo, revision, files, stored=folder)


def _commit(info: ModelInfo, access: Access) -> str:
    if not info.sha:
        raise WeightsInvalid(f"{access.host} does not say which commit {info.id} is at, so it cannot be pinned. Use another mirror.")
    return info.sha


def _files(repo: str, info: ModelInfo, access: Access) -> tuple[RepositoryFile, ...]:
    siblings: Sequence[RepoSibling] = info.siblings or ()
    by_name = {sibling.rfilename: sibling for sibling in siblings}
    return tuple(_file(repo, by_name[name], access) for name in select(repo, tuple(by_name)))


def _file(repo: str, sibling: RepoSibling, access: Access) -> RepositoryFile:
    if sibling.lfs is not None:
        return RepositoryFile(sibling.rfilename, sibling.lfs.size, sibling.lfs.sha256, "")
    if sibling.size is None or not sibling.blob_id:
        raise WeightsInvalid(
            f"{access.host} tells neither size nor hash of {sibling.rfilename} in {repo}, so a download could not be checked. "
            "Use another mirror."
        )
    return RepositoryFile(sibling.rfilename, sibling.size, "", sibling.blob_id)


def _knock(repo: str, commit: str, access: Access) -> None:
    """The hub shows a gated repository's listing to everybody; only asking for a file tells whether we may have it."""
    url = huggingface_hub.hf_hub_url(repo, _CONFIG, revision=commit, endpoint=access.endpoint)
    access.api().get_hf_file_metadata(url=url, timeout=_ASK_TIMEOUT_S)
