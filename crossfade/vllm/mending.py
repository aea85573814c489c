"""A start that failed and needs no person: what to change, by its diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossfade.vllm.command import ServeSpec
from crossfade.vllm.signatures import Category


@dataclass(frozen=True)
class Mended:
    """The server to start instead, and the change in words."""

    spec: ServeSpec
    what: str


def mended(spec: ServeSpec, category: Category) -> Mended | None:
    """A changed server whose start may succeed; None when nothing is known, or the change was made already."""
    if category is Category.GPU_TOO_OLD and spec.dtype != "float16":
        return Mended(replace(spec, dtype="float16"), "dtype float16, because this GPU has no bfloat16")
    return None
