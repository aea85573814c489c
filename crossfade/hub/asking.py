"""One request for a file of a repository, or a part of it, through huggingface_hub's own session: its proxies, certificates and hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import huggingface_hub
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but not re-exported by name
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from crossfade.hub.access import Access
from crossfade.hub.repository import ResolvedRepository

_TIMEOUT = httpx2.Timeout(10.0, read=30.0)


@contextmanager
def asking(resolved: ResolvedRepository, name: str, access: Access, *, span: tuple[int, int] | None = None) -> Iterator[httpx2.Response]:
    """The answer, its body not read yet and not decoded. `span` is the first and last byte wanted; a mirror may ignore it and answer 200.

    The token goes to the hub only, not to where it redirects. Raises what the hub's client raises for a refusal, and httpx2's errors.
    """
    url = huggingface_hub.hf_hub_url(resolved.repo, name, revision=resolved.commit, endpoint=access.endpoint)
    headers = build_hf_headers(token=access.token or False, library_name="crossfade") | {"Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{span[1]}"
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        yield response
