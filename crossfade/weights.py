"""What a folder of weights holds, and whether it still holds it.

A folder is good when `weights.json` names every file with size and SHA-256. The manifest is written last and atomically, so a
folder without one is unfinished, whatever else lies in it. Download and quantize write manifests; serving only reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from crossfade.errors import WeightsInvalid

MANIFEST = "weights.json"

LOADED_BY_ENGINES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".gguf", ".py", ".so"})
"""Suffixes an engine picks up or executes on its own when it finds them beside a config. Only manifest entries may have them."""

_HEADER_LIMIT = 100_000_000  # bytes; the safetensors library refuses larger headers too


def _inside(path: str) -> str:
    if not path or path.startswith("/") or "\\" in path or ".." in Path(path).parts:
        raise ValueError(f"{path!r} leads out of the folder")
    return path


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightFile(_Record):
    """One file. `path` is relative to the folder."""

    path: Annotated[str, AfterValidator(_inside)]
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WeightsManifest(_Record):
    """Everything in a folder of weights and where it came from.

    `scheme` is "none" for weights as downloaded. Quantized weights name their scheme, and in `base` the repo@commit they were made from.
    """

    repo: str
    commit: str
    made_by: str
    files: tuple[WeightFile, ...]
    scheme: str = "none"
    base: str | None = None

    @property
    def total_bytes(self) -> int:
        """Sum of all files."""
        return sum(file.bytes for file in self.files)


def folder_for(weights_root: Path, repo: str, commit: str) -> Path:
    """Where weights as downloaded live: one folder per commit, so two revisions never mix."""
    return weights_root / repo.replace("/", "--") / commit


def load_manifest(folder: Path) -> WeightsManifest:
    """The manifest as written, files not looked at. Raises WeightsInvalid when there is none or it cannot be read."""
    path = folder / MANIFEST
    try:
        return WeightsManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise WeightsInvalid(f"{folder} has no {MANIFEST}: the download or quantization did not finish. Run the stage again.") from None
    except (OSError, ValidationError) as error:
        raise WeightsInvalid(f"{path} cannot be read ({type(error).__name__}). Remove the folder and run the stage again.") from None


def verify(folder: Path) -> WeightsManifest:
    """The manifest, after reading and hashing every file (about 1 GB/s per core).

    Raises WeightsInvalid naming the first file that is missing, differs, or that an engine would load although the
    manifest does not know it.
    """
    manifest = load_manifest(folder)
    _refuse_strangers(folder, manifest)
    for expected, actual in zip(manifest.files, hash_files(folder, [file.path for file in manifest.files]), strict=True):
        if actual != expected:
            raise WeightsInvalid(
                f"{folder / expected.path} is not the file that was checked in: {actual.bytes} bytes with sha256 {actual.sha256[:12]}... "
                f"instead of {expected.bytes} bytes with {expected.sha256[:12]}... Run the stage again to bring it back."
            )
    return manifest


def seal(folder: Path, manifest: WeightsManifest) -> WeightsManifest:
    """Write the manifest. From here on the folder counts as finished, also after power loss.

    Raises WeightsInvalid when a safetensors file is malformed, a shard that the index names is missing, or the folder holds
    something that an engine would load and the manifest does not name.
    """
    _refuse_strangers(folder, manifest)
    _refuse_missing_shards(folder, manifest)
    for file in manifest.files:
        if file.path.endswith(".safetensors"):
            check_safetensors(folder / file.path)
        _to_disk(folder / file.path)
    temporary = folder / f".{MANIFEST}.tmp"
    with temporary.open("w", encoding="utf-8") as output:
        output.write(manifest.model_dump_json(indent=1) + "\n")
        output.flush()
        os.fsync(output.fileno())
    temporary.replace(folder / MANIFEST)
    _to_disk(folder)
    return manifest


def _to_disk(path: Path) -> None:
    """Return when the disk has a file, or the names in a folder: a manifest must not outlive what it vouches for."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_files(folder: Path, paths: Sequence[str]) -> tuple[WeightFile, ...]:
    """Size and SHA-256 of files as they are now, in the order given. Raises WeightsInvalid for a missing or unreadable one."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # hashing releases the interpreter lock
        return tuple(pool.map(lambda path: _hash(folder, path), paths))


def check_safetensors(path: Path) -> None:
    """Return when the file is complete safetensors: its header is readable and its tensors end exactly where the file ends.

    Raises WeightsInvalid saying what is wrong.
    """
    header, begins = _header(path)
    try:
        end = max((int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise _malformed(path, "its header is not JSON of the safetensors form") from None
    size = path.stat().st_size
    if begins + end != size:
        raise _malformed(path, f"its tensors end at byte {begins + end}, the file at {size}")


def read_headers(folder: Path, manifest: WeightsManifest) -> tuple[Mapping[str, object], ...]:
    """The header of every safetensors file: tensor names with dtype and shape. Reads a few kilobytes a file. Raises WeightsInvalid."""
    return tuple(_header(folder / file.path)[0] for file in manifest.files if file.path.endswith(".safetensors"))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and the byte at which tensors begin."""
    try:
        size = path.stat().st_size
        with path.open("rb") as source:
            start = source.read(8)
            if len(start) < 8:
                raise _malformed(path, f"it has only {size} bytes")
            (length,) = struct.unpack("<Q", start)
            if length > min(size - 8, _HEADER_LIMIT):
                raise _malformed(path, f"its header claims {length} bytes, the file has {size}")
            text = source.read(length)
    except OSError as error:
        raise WeightsInvalid(f"{path}: {error.strerror}. Run the stage again to bring it back.") from None
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise _malformed(path, "its header is not JSON of the safetensors form")
    return header, 8 + length


def _malformed(path: Path, why: str) -> WeightsInvalid:
    return WeightsInvalid(
        f"{path} is not a complete safetensors file: {why}. It was made like this: use another revision, or make it again."
    )


def _hash(folder: Path, name: str) -> WeightFile:
    path = folder / name
    try:
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            return WeightFile(path=name, bytes=source.tell(), sha256=digest)
    except OSError as error:
        raise WeightsInvalid(f"{path}: {error.strerror}. Run the stage again to bring it back.") from None


def _refuse_strangers(folder: Path, manifest: WeightsManifest) -> None:
    known = {file.path for file in manifest.files}
    for path in sorted(folder.rglob("*")):
        if path.suffix in LOADED_BY_ENGINES and path.relative_to(folder).as_posix() not in known:
            raise WeightsInvalid(
                f"{path} does not belong to these weights, but an engine would load it. Remove it and run the stage again."
            )


def _refuse_missing_shards(folder: Path, manifest: WeightsManifest) -> None:
    known = {file.path for file in manifest.files}
    for index in (name for name in sorted(known) if name.endswith(".safetensors.index.json")):
        try:
            shards = set(json.loads((folder / index).read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WeightsInvalid(
                f"{folder / index} does not name the files of its tensors. Use another revision, or make it again."
            ) from None
        if missing := sorted(shards - known):
            raise WeightsInvalid(
                f"{folder / index} names {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}, "
                f"which {manifest.repo} does not hold: the weights are incomplete where they come from. Use another revision."
            )
