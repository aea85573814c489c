"""A model as memory sees it, read from its `config.json`: layers, heads, and what each layer keeps of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crossfade.assess.config_numbers import number
from crossfade.assess.layers import remembered, state_bytes, unread, window
from crossfade.errors import WeightsInvalid

Kind = Literal["full", "window", "latent", "state"]

_LATENT = (
    *("deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_vl_v2", "kimi_k2", "kimi_linear", "longcat_flash", "pangu_ultra_moe"),
    *("glm4_moe_lite", "glm_moe_dsa", "bailing_hybrid"),
)
"""Families whose latent attention vLLM stores compressed. Others with a `kv_lora_rank` (MiniCPM3) are stored expanded."""

_LEFT_OUT: Mapping[str, Mapping[str, int | bool]] = {
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 256, "sliding_window": 4096, "tie_word_embeddings": True},
    "gemma3_text": {
        **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096},
        **{"vocab_size": 262_208, "max_position_embeddings": 131_072, "tie_word_embeddings": True},
    },
    "gemma3n_text": {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "tie_word_embeddings": True},
    "gemma4_text": {"tie_word_embeddings": True},
    "cohere": {"tie_word_embeddings": True},
    "cohere2": {"tie_word_embeddings": True},
    "falcon": {"tie_word_embeddings": True, "max_position_embeddings": 2048},
    "qwen3_next": {"full_attention_interval": 4},
    "qwen3_5_text": {"full_attention_interval": 4},
    "qwen3_5_moe_text": {"full_attention_interval": 4},
    "nemotron_h": {"n_groups": 8},
}
"""Defaults of the model's own class, for values that published files leave out because they equal them."""


@dataclass(frozen=True)
class LayerGroup:
    """Layers that keep the same of a sequence. `fixed_bytes` is for `state`: per sequence and layer, over all GPUs together."""

    kind: Kind
    layers: int
    kv_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0
    window: int = 0
    fixed_bytes: int = 0


@dataclass(frozen=True)
class Architecture:
    """What sizing needs of a model. `context` is the longest sequence it was made for; `notes` say where a number is an upper bound.

    `quantized` is the method of weights that are published quantized, empty for weights at full precision.
    """

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    context: int
    tied: bool
    element_bytes: int
    groups: tuple[LayerGroup, ...]
    experts: int = 0
    quantized: str = ""
    dtype: str = "bfloat16"
    notes: tuple[str, ...] = ()

    @property
    def embedding_elements(self) -> int:
        """Numbers in the embedding and the head, which quantizers leave at full precision."""
        return self.vocab * self.hidden * (1 if self.tied else 2)


def read_architecture(config: Mapping[str, object]) -> Architecture:
    """The architecture in a `config.json`; the language model's part of one that also sees or hears.

    Raises WeightsInvalid naming what the file does not say.
    """
    text = _text(config)
    layers = _required(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = _required(text, "hidden_size", "n_embd", "d_model")
    heads = _required(text, "num_attention_heads", "n_head", "n_heads")
    dtype = str(text.get("torch_dtype") or text.get("dtype") or config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    element_bytes = 4 if dtype == "float32" else 2
    quantization = config.get("quantization_config") or text.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else ""
    kinds = remembered(text, layers)
    groups = tuple(
        group
        for kind in ("all", "window", "state")
        if (count := kinds.count(kind)) and (group := _group(text, kind, count, hidden=hidden, heads=heads, element_bytes=element_bytes))
    )
    return Architecture(
        model_type=str(text.get("model_type") or config.get("model_type") or ""),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        intermediate=number(text, "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim") or 4 * hidden,
        vocab=number(text, "vocab_size") or number(config, "vocab_size"),
        context=number(text, "max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "model_max_length"),
        tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        element_bytes=element_bytes,
        groups=groups,
        experts=number(text, "num_local_experts", "num_experts", "n_routed_experts"),
        quantized=str(method or ""),
        dtype=dtype,
        notes=_notes(text, groups),
    )


def _text(config: Mapping[str, object]) -> Mapping[str, object]:
    thinker = config.get("thinker_config")
    outer = thinker if isinstance(thinker, Mapping) else config
    inner = next((part for name in ("text_config", "llm_config", "language_config") if isinstance(part := outer.get(name), Mapping)), outer)
    return {**_LEFT_OUT.get(str(inner.get("model_type")), {}), **inner}


def _required(text: Mapping[str, object], *names: str) -> int:
    if found := number(text, *names):
        return found
    raise WeightsInvalid(
        f"config.json does not say {names[0]}, so the memory of {text.get('model_type') or 'this model'} cannot be computed. "
        "Write tensor_parallel_size, max_model_len and kv_cache into target.vllm of the plan to size it by hand."
    )


def _kv_heads(text: Mapping[str, object], heads: int) -> int:
    """Falcon counts them in three ways: one for all (7B), a number (40B), or as many as heads (1B and RW)."""
    if text.get("model_type") == "falcon" and not text.get("new_decoder_architecture"):
        return 1 if text.get("multi_query", True) else heads
    if text.get("multi_query") is True and not number(text, "num_key_value_heads", "num_kv_heads"):
        return 1
    return number(text, "num_key_value_heads", "num_kv_heads", "n_head_kv") or heads


def _group(text: Mapping[str, object], kind: str, layers: int, *, hidden: int, heads: int, element_bytes: int) -> LayerGroup | None:
    if kind == "state":
        fixed = state_bytes(text, hidden, element_bytes)
        return LayerGroup("state", layers, fixed_bytes=fixed)
    if (rank := number(text, "kv_lora_rank")) and str(text.get("model_type")) in _LATENT:
        indexer = number(text, "index_head_dim")  # DeepSeek V3.2 keeps 8-bit keys and a 4-byte scale in 128 of an indexer beside it
        extra = indexer + 4 * (indexer // 128) if indexer else 0
        return LayerGroup("latent", layers, kv_heads=1, key_dim=rank + number(text, "qk_rope_head_dim"), fixed_bytes=extra)
    kv_heads = _kv_heads(text, heads)
    key_dim = number(text, "head_dim", "attention_head_dim") or hidden // heads
    value_dim = number(text, "v_head_dim") or key_dim
    if rank:  # stored expanded, values padded to the keys' width
        key_dim = value_dim = number(text, "qk_nope_head_dim") + number(text, "qk_rope_head_dim")
    if kind == "window":
        return LayerGroup("window", layers, kv_heads=kv_heads, key_dim=key_dim, value_dim=value_dim, window=window(text))
    if wide := number(text, "global_head_dim"):  # Gemma 4: its global layers have other heads than the local ones
        kv_heads = number(text, "num_global_key_value_heads") or kv_heads if text.get("attention_k_eq_v") else kv_heads
        key_dim = value_dim = wide
    return LayerGroup("full", layers, kv_heads=kv_heads, key_dim=key_dim, value_dim=value_dim)


def _notes(text: Mapping[str, object], groups: tuple[LayerGroup, ...]) -> tuple[str, ...]:
    notes = []
    if kinds := unread(text):
        notes.append(f"layers of unknown type ({kinds}) are counted as full attention: an upper bound")
    if any(group.kind == "state" and not group.fixed_bytes for group in groups):
        notes.append("the configuration does not say how large the fixed state of its linear layers is; it is not counted")
    return tuple(notes)
