"""Bytes that the cache of keys and values takes on one GPU, as vLLM lays it out.

Per token and layer: both keys and values of every head a GPU holds, `kv_heads * (key_dim + value_dim)` numbers. GPUs of a
tensor-parallel group share the heads; with more GPUs than heads each head lies on several. Latent attention keeps one vector for
all heads, on every GPU. A window layer keeps its window only, a linear layer the same state however long the sequence is.
"""

from __future__ import annotations

from math import ceil

from crossfade.assess.architecture import Architecture, LayerGroup

BLOCK_TOKENS = 16
"""vLLM hands the cache out in blocks of so many tokens."""


def token_bytes(model: Architecture, *, element_bytes: int = 2, tensor_parallel: int = 1) -> int:
    """Bytes of one token on one GPU while every layer still keeps it: an upper bound for models with window layers."""
    return sum(group.layers * _layer_token_bytes(group, element_bytes, tensor_parallel) for group in model.groups)


def sequence_bytes(model: Architecture, tokens: int, *, element_bytes: int = 2, tensor_parallel: int = 1) -> int:
    """Bytes of a whole sequence of `tokens` on one GPU, in whole blocks."""
    return _summed(model, tokens, 0, element_bytes, tensor_parallel)


def start_bytes(model: Architecture, max_model_len: int, *, chunk: int, element_bytes: int = 2, tensor_parallel: int = 1) -> int:
    """What vLLM wants free before it starts: room for one sequence of `max_model_len`.

    A window layer holds its window and the `chunk` of prompt being read at once (`max_num_batched_tokens`).
    """
    return _summed(model, max_model_len, chunk, element_bytes, tensor_parallel)


def longest_that_fits(model: Architecture, room: int, most: int, *, chunk: int, element_bytes: int = 2, tensor_parallel: int = 1) -> int:
    """The longest `max_model_len` up to `most`, in whole blocks, that vLLM starts with in `room` bytes; 0 when not even one block fits."""
    low, high = 0, most // BLOCK_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        needed = start_bytes(model, middle * BLOCK_TOKENS, chunk=chunk, element_bytes=element_bytes, tensor_parallel=tensor_parallel)
        low, high = (middle, high) if needed <= room else (low, middle - 1)
    return low * BLOCK_TOKENS


def _summed(model: Architecture, tokens: int, chunk: int, element_bytes: int, tensor_parallel: int) -> int:
    total, same = 0, _group_size(model)
    for group in model.groups:
        layers = ceil(group.layers / same) * same if len(model.groups) > 1 else group.layers
        if group.kind == "state":
            total += layers * ceil(group.fixed_bytes / tensor_parallel)
            continue
        kept = min(tokens, group.window + max(chunk - 1, 0)) if group.kind == "window" else tokens
        edge = BLOCK_TOKENS if kept < tokens else 0  # a window rarely begins where a block does
        total += layers * (_in_blocks(kept) + edge) * _layer_token_bytes(group, element_bytes, tensor_parallel)
    return total


def _group_size(model: Architecture) -> int:
    """vLLM's hybrid manager gives all kinds of layers groups of one size and fills the last group up."""
    counts = [group.layers for group in model.groups] or [1]
    return max(counts) if max(counts) < min(counts) * 1.25 else min(counts)


def _layer_token_bytes(group: LayerGroup, element_bytes: int, tensor_parallel: int) -> int:
    if group.kind == "state":
        return 0
    if group.kind == "latent":
        return group.key_dim * element_bytes + group.fixed_bytes
    heads = max(1, ceil(group.kv_heads / tensor_parallel))
    return heads * (group.key_dim + group.value_dim) * element_bytes


def _in_blocks(tokens: int) -> int:
    return ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS
