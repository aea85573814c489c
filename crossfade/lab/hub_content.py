"""What the lab's hub serves of a folder, and how it misbehaves when told to."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

_LFS_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt", ".pth", ".model"}
_LFS_FROM_BYTES = 10_000_000
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Faults:
    """How a repository misbehaves. Everything off by default; `*_times` and `rate_limited`, `unavailable` count down, then it is well."""

    cut_after_bytes: int = 0
    """Break the connection of a file's GET after so many bytes ..."""
    cut_times: int = 1
    """... so often."""
    corrupt: str = ""
    """Flip one byte in the middle of this file ..."""
    corrupt_times: int = 1
    """... in the first so many GETs of it."""
    rate_limited: int = 0
    """Answer 429 to the first so many requests."""
    retry_after_s: int = 1
    unavailable: int = 0
    """Answer 503 to the first so many requests."""
    hits: Literal["info", "files"] = "info"
    """Which requests `rate_limited` and `unavailable` hit: the repository's description, or its files."""
    unauthorized: bool = False
    """Answer 401 to everything, as to a token that is no longer good."""
    gated: bool = False
    """Show the description to everybody, the files only to `licence_token`."""
    licence_token: str = field(default="", repr=False)
    bytes_per_s: int = 0
    """Send files no faster than this; 0 is as fast as possible."""


@dataclass(frozen=True)
class LabRepository:
    """A folder served as `name` (`organisation/name`)."""

    name: str
    folder: Path
    faults: Faults = Faults()


@dataclass(frozen=True)
class Blob:
    """A served file. `git_sha1` is the hash git has for small files; `lfs` ones are recorded by sha256."""

    path: str
    bytes: int
    sha256: str
    git_sha1: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What huggingface_hub files it under."""
        return self.sha256 if self.lfs else self.git_sha1


class Shelf:
    """One repository: its hashed content and the faults that are still to come."""

    def __init__(self, repository: LabRepository) -> None:
        self._name, self._folder, self._faults = repository.name, repository.folder, repository.faults
        self._left = {"rate_limited": repository.faults.rate_limited, "unavailable": repository.faults.unavailable}
        self._left |= {"cut": repository.faults.cut_times, "corrupt": repository.faults.corrupt_times}
        self._blobs = {blob.path: blob for blob in _blobs(repository.folder)}
        self._card = _card(repository.folder)
        content = "\n".join(f"{blob.path} {blob.sha256}" for blob in self._blobs.values())
        self.commit = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()

    def refusal(self, kind: str, token: str) -> Response | None:
        """What a request of `kind` is refused with, if it is; counts the faults down."""
        faults = self._faults
        if faults.unauthorized:
            return refuse(401, "", "Invalid credentials in Authorization header")
        if kind == faults.hits and self._spend("rate_limited"):
            return refuse(429, "", "Too many requests", {"Retry-After": str(faults.retry_after_s)})
        if kind == faults.hits and self._spend("unavailable"):
            return refuse(503, "", "Service unavailable")
        if kind == "files" and faults.gated and (not token or token != faults.licence_token):
            return refuse(403 if token else 401, "GatedRepo", f"Access to model {self._name} is restricted.")
        return None

    def info(self, *, blobs: bool) -> dict[str, object]:
        """The repository's description; `blobs` adds sizes and hashes."""
        siblings = [_sibling(blob, full=blobs) for blob in self._blobs.values()]
        card = {
            "id": self._name,
            "modelId": self._name,
            "sha": self.commit,
            "private": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
        }
        gated = "manual" if self._faults.gated else False
        return card | {"gated": gated, "tags": list(self.tags()), "cardData": self._card, "siblings": siblings}

    def tags(self) -> tuple[str, ...]:
        """As the hub makes them of the card: what the model was made from, and how."""
        bases = self._card.get("base_model", [])
        named = [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else []
        relation = self._card.get("base_model_relation")
        plain = [f"base_model:{base}" for base in named]
        return (*plain, *(f"base_model:{relation}:{base}" for base in named if relation))

    def tree(self) -> list[dict[str, object]]:
        """All files, as the recursive listing has them."""
        return [
            {"type": "file", "oid": blob.git_sha1, "size": blob.bytes, "path": blob.path} | _lfs(blob, "oid")
            for blob in self._blobs.values()
        ]

    def file(self, request: Request) -> Response:
        """A file or the range of it that the request asks for."""
        blob = self._blobs.get(request.path_params["path"])
        if blob is None:
            return refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": self.commit})
        headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.bytes)}
        asked = request.headers.get("range", "")
        first, last = _span(asked, blob.bytes)
        if first > last and asked:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{blob.bytes}"})
        headers["Content-Length"] = str(last - first + 1)
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{blob.bytes}"
        status = 206 if asked else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self._bytes(blob, first, last), status_code=status, headers=headers, media_type="application/octet-stream")

    async def _bytes(self, blob: Blob, first: int, last: int) -> AsyncIterator[bytes]:
        faults = self._faults
        middle = blob.bytes // 2
        flip = middle if faults.corrupt == blob.path and first <= middle <= last and self._spend("corrupt") else -1
        cut = 0 < faults.cut_after_bytes <= last - first and self._spend("cut")
        end = first + faults.cut_after_bytes if cut else last + 1
        piece = min(_PIECE_BYTES, max(1, faults.bytes_per_s // 20)) if faults.bytes_per_s else _PIECE_BYTES
        began_s, at = time.monotonic(), first
        with (self._folder / blob.path).open("rb") as source:
            source.seek(first)
            while at < end:
                data = bytearray(source.read(min(piece, end - at)))
                if at <= flip < at + len(data):
                    data[flip - at] ^= 1
                at += len(data)
                yield bytes(data)
                if faults.bytes_per_s:
                    await anyio.sleep(max(0.0, began_s + (at - first) / faults.bytes_per_s - time.monotonic()))
        # ending short of the promised length makes the server close the connection: that is the cut

    def _spend(self, fault: str) -> bool:
        self._left[fault] -= 1
        return self._left[fault] >= 0


def refuse(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error answer the way the hub gives it: what the client library reads is in the headers."""
    marks = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | dict(headers or {})
    return JSONResponse({"error": message}, status_code=status, headers=marks)


def _card(folder: Path) -> dict[str, object]:
    """The YAML at the head of README.md, between two lines of dashes."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    head = text.split("---\n")[1] if text.startswith("---\n") else ""
    written = yaml.safe_load(head) if head else None
    return written if isinstance(written, dict) else {}


def _blobs(folder: Path) -> Iterator[Blob]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        size = path.stat().st_size
        git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        sha256 = hashlib.sha256()
        with path.open("rb") as source:
            while piece := source.read(_PIECE_BYTES):
                git.update(piece)
                sha256.update(piece)
        lfs = path.suffix in _LFS_SUFFIXES or size >= _LFS_FROM_BYTES
        yield Blob(name.as_posix(), size, sha256.hexdigest(), git.hexdigest(), lfs)


def _lfs(blob: Blob, hash_key: str) -> dict[str, object]:
    return {"lfs": {hash_key: blob.sha256, "size": blob.bytes, "pointerSize": 134}} if blob.lfs else {}


def _sibling(blob: Blob, *, full: bool) -> dict[str, object]:
    if not full:
        return {"rfilename": blob.path}
    return {"rfilename": blob.path, "size": blob.bytes, "blobId": blob.git_sha1} | _lfs(blob, "sha256")


def _span(asked: str, size: int) -> tuple[int, int]:
    """First and last byte asked for; first > last when there is nothing to send."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if not match or not (match[1] or match[2]):
        return 0, size - 1
    if not match[1]:
        return max(0, size - int(match[2])), size - 1
    return int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
