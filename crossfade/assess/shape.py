"""The shape of a network as both sides write it, so that the same weights can be told from other ones (H18).

Ollama answers with GGUF keys below the architecture's name (`llama.block_count`), the hub with the fields of `config.json`
(`num_hidden_layers`). A number a side does not give is None and is never compared: Ollama gives no lists unless asked for
verbose answers, and not every converter writes the size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MODEL_TYPES: Mapping[str, frozenset[str]] = {
    "llama": frozenset({"llama", "mistral", "ministral", "mixtral", "smollm3"}),
    "llama4": frozenset({"llama4", "llama4_text"}),
    "mllama": frozenset({"mllama", "mllama_text_model"}),
    "mistral3": frozenset({"mistral3", "mistral", "ministral3"}),
    "qwen2": frozenset({"qwen2"}),
    "qwen2moe": frozenset({"qwen2_moe"}),
    "qwen2vl": frozenset({"qwen2_vl", "qwen2_vl_text"}),
    "qwen25vl": frozenset({"qwen2_5_vl", "qwen2_5_vl_text"}),
    "qwen3": frozenset({"qwen3"}),
    "qwen3moe": frozenset({"qwen3_moe"}),
    "qwen3vl": frozenset({"qwen3_vl", "qwen3_vl_text"}),
    "gemma": frozenset({"gemma"}),
    "gemma2": frozenset({"gemma2"}),
    "gemma3": frozenset({"gemma3", "gemma3_text"}),
    "gemma3n": frozenset({"gemma3n", "gemma3n_text"}),
    "gptoss": frozenset({"gpt_oss"}),
    "phi2": frozenset({"phi"}),
    "phi3": frozenset({"phi3", "phi4mm"}),
    "deepseek2": frozenset({"deepseek_v2", "deepseek_v3"}),
    "commandr": frozenset({"cohere"}),
    "cohere2": frozenset({"cohere2"}),
    "granite": frozenset({"granite"}),
    "granitemoe": frozenset({"granitemoe"}),
    "granitehybrid": frozenset({"granitemoehybrid"}),
    "olmo2": frozenset({"olmo2", "olmo3"}),
    "starcoder2": frozenset({"starcoder2"}),
    "falcon": frozenset({"falcon"}),
    "stablelm": frozenset({"stablelm"}),
    "bert": frozenset({"bert", "xlm-roberta"}),
    "nomicbert": frozenset({"nomic_bert"}),
}
"""GGUF's `general.architecture`, without dashes and underscores, to the `model_type`s it may come from. One architecture
serves several: Mistral's weights are a Llama to llama.cpp."""


@dataclass(frozen=True)
class Shape:
    """What identifies a network without its weights. `architecture` is written as its side writes it."""

    architecture: str | None = None
    block_count: int | None = None
    head_count_kv: int | None = None
    vocab_size: int | None = None
    embedding_length: int | None = None


@dataclass(frozen=True)
class Mismatch:
    """One value the two sides disagree about, as each of them writes it."""

    what: str
    source: str
    target: str


def shape_from_gguf(model_info: Mapping[str, object]) -> Shape:
    """The shape in the `model_info` of Ollama's `/api/show`."""
    architecture = model_info.get("general.architecture")
    if not isinstance(architecture, str):
        return Shape()
    tokens = model_info.get("tokenizer.ggml.tokens")
    # with latent attention a converter may store one shared head where config.json counts them all
    latent = f"{architecture}.attention.kv_lora_rank" in model_info
    vocab_size = _whole(model_info.get(f"{architecture}.vocab_size"))
    return Shape(
        architecture=architecture,
        block_count=_whole(model_info.get(f"{architecture}.block_count")),
        head_count_kv=None if latent else _whole(model_info.get(f"{architecture}.attention.head_count_kv")),
        vocab_size=vocab_size if vocab_size is not None or not isinstance(tokens, list) else len(tokens),
        embedding_length=_whole(model_info.get(f"{architecture}.embedding_length")),
    )


def shape_from_config(config: Mapping[str, object]) -> Shape:
    """The shape in a repository's `config.json`; a model that also sees or hears keeps its text's numbers in `text_config`."""
    inner = config.get("text_config")
    text: Mapping[str, object] = inner if isinstance(inner, Mapping) else config
    kind = config.get("model_type") or text.get("model_type")
    return Shape(
        architecture=kind if isinstance(kind, str) else None,
        block_count=_whole(text.get("num_hidden_layers")),
        head_count_kv=_whole(text.get("num_key_value_heads")),
        vocab_size=_whole(text.get("vocab_size", config.get("vocab_size"))),
        embedding_length=_whole(text.get("hidden_size")),
    )


def mismatches(source: Shape, target: Shape) -> tuple[Mismatch, ...]:
    """Every value that both sides give and that differs, architecture first."""
    found = []
    if source.architecture and target.architecture and not same_architecture(source.architecture, target.architecture):
        found.append(Mismatch("architecture", source.architecture, target.architecture))
    for what, left, right in _numbers(source, target):
        if left != right and not (what == "vocab_size" and _padded(left, right)):
            found.append(Mismatch(what, str(left), str(right)))
    return tuple(found)


def compared(source: Shape, target: Shape) -> tuple[str, ...]:
    """The values that both sides give, and so could be compared."""
    both = ("architecture",) if source.architecture and target.architecture else ()
    return (*both, *(what for what, _, _ in _numbers(source, target)))


def same_architecture(gguf: str, model_type: str) -> bool:
    """Whether weights of the hub's `model_type` become GGUF's architecture `gguf`; an unlisted one must have the same name."""
    plain = _plain(gguf)
    return _plain(model_type) in {_plain(name) for name in MODEL_TYPES.get(plain, frozenset({plain}))}


def _numbers(source: Shape, target: Shape) -> list[tuple[str, int, int]]:
    rows = [
        ("block_count", source.block_count, target.block_count),
        ("head_count_kv", source.head_count_kv, target.head_count_kv),
        ("vocab_size", source.vocab_size, target.vocab_size),
        ("embedding_length", source.embedding_length, target.embedding_length),
    ]
    return [(what, left, right) for what, left, right in rows if left is not None and right is not None]


def _padded(left: int, right: int) -> bool:
    """Whether one vocabulary is the other, filled up to a multiple of 64 as some checkpoints are."""
    return abs(left - right) <= 64 and max(left, right) % 64 == 0


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(".", "")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
