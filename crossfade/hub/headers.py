"""The shapes of all tensors, read over the network before the weights are: a safetensors file begins with them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from crossfade.errors import WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.asking import asking
from crossfade.hub.failures import explain, offline
from crossfade.hub.repository import ResolvedRepository
from crossfade.weights import load_manifest, read_headers

_FIRST_BYTES = 1 << 18
_HEADER_LIMIT = 100_000_000
_PARALLEL = 8


def fetch_headers(resolved: ResolvedRepository, access: Access | None = None) -> tuple[Mapping[str, object], ...]:
    """The header of every safetensors file, in the repository's order: one small ranged request a file, a second for a long header.

    Of files in the store, nobody is asked. Raises WeightsInvalid (not safetensors, or a mirror that ignores ranges), Unreachable or
    TemporaryError.
    """
    if resolved.stored:
        return read_headers(resolved.stored, load_manifest(resolved.stored))
    access = access or Access.from_environment()
    if access.offline:
        raise offline(resolved.repo, resolved.commit)
    names = [file.path for file in resolved.files if file.path.endswith(".safetensors")]
    try:
        with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
            return tuple(pool.map(lambda name: _header(resolved, name, access), names))
    except Exception as error:  # huggingface_hub has no common root for what it raises
        raise explain(error, resolved.repo, resolved.commit, access) from None


def _header(resolved: ResolvedRepository, name: str, access: Access) -> Mapping[str, object]:
    first = _bytes(resolved, name, access, 0, _FIRST_BYTES)
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else _HEADER_LIMIT + 1
    if length > _HEADER_LIMIT:
        raise _strange(resolved, name, access)
    text = first[8 : 8 + length]
    if len(text) < length:
        text += _bytes(resolved, name, access, len(first), 8 + length - len(first))
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise _strange(resolved, name, access)
    return header


def _bytes(resolved: ResolvedRepository, name: str, access: Access, begin: int, count: int) -> bytes:
    with asking(resolved, name, access, span=(begin, begin + count - 1)) as response:
        if response.status_code != 206:
            raise WeightsInvalid(
                f"{access.host} ignores ranges, so the shapes in {name} cannot be read before the download. Size the model by hand in "
                "target.vllm of the plan, or use another mirror."
            )
        return b"".join(response.iter_raw())[:count]


def _strange(resolved: ResolvedRepository, name: str, access: Access) -> WeightsInvalid:
    return WeightsInvalid(f"{name} of {resolved.repo} on {access.host} does not begin like a safetensors file. Use another revision.")
