"""The GPU memory Ollama holds or will take, by its own rules; it decides what is left for a server beside it."""

from __future__ import annotations

from dataclasses import dataclass

FITS_BELOW = 0.8
"""Ollama puts a model on a GPU only when it believes to need at most this share of what is free."""

GIB = 2**30


@dataclass(frozen=True)
class SourceMemory:
    """`expected_bytes` is what Ollama takes when it answers, `resident_bytes` what it holds on the GPUs now (`size_vram` of /api/ps).

    Resident memory is part of what the driver counts as used. The rest comes when the next request loads the model, and must stay free.
    """

    expected_bytes: int = 0
    resident_bytes: int = 0

    @property
    def still_to_come_bytes(self) -> int:
        """What Ollama would take on top of what is used now."""
        return max(0, self.expected_bytes - self.resident_bytes)


NO_SOURCE = SourceMemory()
"""The source runs elsewhere, or on no GPU."""


@dataclass(frozen=True)
class GgufShape:
    """A GGUF file as Ollama's predictor reads it. `kv_heads` is the smallest number over the layers."""

    file_bytes: int
    layers: int
    heads: int
    kv_heads: int
    embedding: int


def predicted_bytes(shape: GgufShape, *, context: int, parallel: int = 1, batch: int = 512) -> int:
    """What Ollama (0.30 and later) believes a model needs: the file, a 16-bit cache for all slots, and a surcharge for large batches.

    It derives the width of a head from the embedding and so is wrong where a model says it separately (Qwen3-4B: 37 % too little).
    """
    width = shape.embedding // shape.heads
    cache = 2 * shape.layers * shape.kv_heads * width * context * parallel * 2
    surcharge = 2 * GIB if batch >= 2048 else 768 * 2**20 if batch >= 1024 else 0
    return shape.file_bytes + cache + surcharge


def default_context(gpus_bytes: int, made_for: int | None) -> int:
    """Tokens that Ollama gives a model nobody set `num_ctx` for, by the memory of all its GPUs together (0.30 and later).

    `OLLAMA_CONTEXT_LENGTH` on the server may say something else; only a loaded model tells.
    """
    tier = 262_144 if gpus_bytes >= 47 * GIB else 32_768 if gpus_bytes >= 23 * GIB else 4_096
    return min(tier, made_for or tier)


def would_load(needed_bytes: int, free_bytes: int) -> bool:
    """Whether Ollama would put a model wholly on a GPU with so much free."""
    return needed_bytes <= FITS_BELOW * free_bytes
