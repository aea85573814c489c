"""Secrets taken out of what leaves the journal.

None should be in it: plans with one in an address are refused, and tokens are never written down. But entries quote what engines and
registries said, so whatever looks like a secret, and whatever is one in this process's environment, is masked once more on the way out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

MASK = "***"

_LOOKS_LIKE_ONE = (
    re.compile(r"(?P<before>://)[^/\s@\"']+(?=@)"),  # user and password of an address
    re.compile(r"(?P<before>\b(?:hf_|sk-|pnu_|pnb_))[A-Za-z0-9_-]{16,}"),  # Hugging Face, OpenAI, Prefect
    re.compile(r"(?i)(?P<before>\bbearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(?P<before>[?&](?:token|api_key|password)=)[^&\s\"']+"),
)
_NAMED_AS_ONE = re.compile(r"(?i)(token|secret|password|passwd|api_?key)$")
_SHORTEST = 8
"""A shorter value of a variable is a word that may stand anywhere."""


@dataclass(frozen=True)
class Masking:
    """What to mask: anything that looks like a secret, and `known` ones."""

    known: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Masks also the values of variables whose name ends in TOKEN, SECRET, PASSWORD or API_KEY; longest first."""
        found = {value for name, value in environment.items() if _NAMED_AS_ONE.search(name) and len(value) >= _SHORTEST}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """`text` without secrets."""
        for value in self.known:
            text = text.replace(value, MASK)
        for pattern in _LOOKS_LIKE_ONE:
            text = pattern.sub(rf"\g<before>{MASK}", text)
        return text

    def json(self, part: Any) -> Any:  # noqa: ANN401 - JSON of any shape
        """The same JSON with every text in it masked."""
        if isinstance(part, str):
            return self.text(part)
        if isinstance(part, list):
            return [self.json(one) for one in part]
        return {self.text(key): self.json(value) for key, value in part.items()} if isinstance(part, dict) else part
