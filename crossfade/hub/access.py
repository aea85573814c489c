"""Which hub is asked, and as whom. Read when a stage starts: huggingface_hub itself reads its address once, at import."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # public, but not re-exported by name

_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class Access:
    """Address, token and whether the network may be used at all. The token is in no `repr` and no message."""

    endpoint: str
    token: str = field(default="", repr=False)
    offline: bool = False

    @classmethod
    def from_environment(cls, token: str = "") -> Self:
        """`HF_ENDPOINT`, `HF_TOKEN` (or the login of the `hf` tool) and `HF_HUB_OFFLINE` as they are now.

        `token`, for instance out of a secret store, goes before those of the environment.
        """
        offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE or os.environ.get("TRANSFORMERS_OFFLINE", "").lower() in _TRUE
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        return cls(endpoint.rstrip("/"), "" if offline else token or huggingface_hub.get_token() or "", offline)

    @property
    def host(self) -> str:
        """`host[:port]` for messages: an address may carry a password."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    def page(self, repo: str) -> str:
        """Where a person opens the repository in a browser."""
        return f"{urlsplit(self.endpoint).scheme}://{self.host}/{repo}"

    def api(self) -> HfApi:
        """The real client. An empty token sends none, also if one is stored on this machine."""
        disable_progress_bars()  # progress is told in our own words
        return HfApi(endpoint=self.endpoint, token=self.token or False, library_name="crossfade")
