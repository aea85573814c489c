"""Which of a model's layers remember what: everything, a window, a fixed state, or nothing.

Configurations say it in many ways: a list of layer types, a string of letters, an interval, or only by the model's type. What
cannot be read counts as full attention, which is an upper bound of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from crossfade.assess.config_numbers import number

Remembers = Literal["all", "window", "state", "nothing"]

_WRITTEN: Mapping[str, Remembers] = {
    "full_attention": "all",
    "attention": "all",
    "global": "all",
    "sliding_attention": "window",
    "chunked_attention": "window",
    "local": "window",
    "linear_attention": "state",
    "mamba": "state",
    "mamba2": "state",
    "conv": "state",
    "recurrent": "state",
    "mlp": "nothing",
    "moe": "nothing",
}

_LETTERS: Mapping[str, Remembers] = {"*": "all", "M": "state", "-": "nothing", "E": "nothing"}
"""Nemotron-H's `hybrid_override_pattern`."""

_GLOBAL_EVERY: Mapping[str, int] = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4, "llama4_text": 4}
"""Models whose configuration may leave out that only every n-th layer sees everything."""


def remembered(text: Mapping[str, object], layers: int) -> tuple[Remembers, ...]:
    """What each layer remembers, in order. Layers that share the cache of earlier ones (Gemma 3n) remember nothing themselves."""
    kinds = _pattern(text, layers)
    shared = number(text, "num_kv_shared_layers")
    kinds[layers - shared :] = ["nothing"] * shared
    return tuple(kinds)


def window(text: Mapping[str, object]) -> int:
    """Tokens a local layer keeps; 0 when the model has no such layers."""
    if text.get("use_sliding_window") is False:
        return 0
    return number(text, "sliding_window") or number(text, "attention_chunk_size")


def unread(text: Mapping[str, object]) -> str:
    """The layer types nobody here knows, for the note that they count as full attention; empty when all are known."""
    written = text.get("layer_types")
    if not isinstance(written, list):
        return ""
    return ", ".join(sorted({str(kind) for kind in written} - _WRITTEN.keys()))


def state_bytes(text: Mapping[str, object], hidden: int, element_bytes: int) -> int:
    """What one linear or state-space layer keeps of a sequence, however long it is; 0 when the configuration does not say.

    The shapes are vLLM's `MambaStateShapeCalculator`; the recurrent part is 32-bit where `mamba_ssm_dtype` asks for it.
    """
    recurrent_bytes = 4 if text.get("mamba_ssm_dtype") == "float32" else element_bytes
    if value_heads := number(text, "linear_num_value_heads"):  # gated delta net: Qwen3-Next, Qwen3.5
        keys = number(text, "linear_num_key_heads") * number(text, "linear_key_head_dim")
        values = value_heads * number(text, "linear_value_head_dim")
        kept = (number(text, "linear_conv_kernel_dim") - 1) * (2 * keys + values)
        return kept * element_bytes + values * number(text, "linear_key_head_dim") * recurrent_bytes
    if heads := number(text, "mamba_num_heads", "mamba_n_heads"):  # Mamba 2: Nemotron-H, Granite 4, Bamba
        width, depth = heads * number(text, "mamba_head_dim", "mamba_d_head"), number(text, "ssm_state_size", "mamba_d_state")
        groups = number(text, "n_groups", "mamba_n_groups") or 1
        kept = (number(text, "conv_kernel", "mamba_d_conv") - 1) * (width + 2 * groups * depth)
        return kept * element_bytes + width * depth * recurrent_bytes
    if depth := number(text, "mamba_d_state"):  # Mamba 1: Jamba
        width = (number(text, "mamba_expand") or 2) * hidden
        return (number(text, "mamba_d_conv") - 1) * width * element_bytes + width * depth * recurrent_bytes
    return (number(text, "conv_L_cache") - 1) * hidden * element_bytes if number(text, "conv_L_cache") else 0


def _pattern(text: Mapping[str, object], layers: int) -> list[Remembers]:
    written, letters = text.get("layer_types"), text.get("hybrid_override_pattern")
    if isinstance(written, list) and len(written) == layers:
        return [_seen(_WRITTEN.get(str(kind), "all"), text) for kind in written]
    if isinstance(letters, str) and len(letters) == layers:
        return [_LETTERS.get(letter, "all") for letter in letters]
    if every := number(text, "full_attention_interval"):
        return ["all" if index % every == every - 1 else "state" for index in range(layers)]
    if period := number(text, "attn_layer_period"):
        return ["all" if index % period == number(text, "attn_layer_offset") else "state" for index in range(layers)]
    if isinstance(which := text.get("attn_layer_indices"), list):
        return ["all" if index in which else "state" for index in range(layers)]
    return _local_pattern(text, layers)


def _local_pattern(text: Mapping[str, object], layers: int) -> list[Remembers]:
    """Window layers that are told by a number or by the model's type alone."""
    if not window(text):
        return ["all"] * layers
    every = number(text, "sliding_window_pattern") or _GLOBAL_EVERY.get(str(text.get("model_type")), 0)
    if every:
        return ["all" if index % every == every - 1 else "window" for index in range(layers)]
    first = number(text, "max_window_layers") if text.get("use_sliding_window") else 0
    return ["window" if index >= first else "all" for index in range(layers)]


def _seen(kind: Remembers, text: Mapping[str, object]) -> Remembers:
    return "all" if kind == "window" and not window(text) else kind
