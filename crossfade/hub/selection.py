"""Which of a repository's files are needed to serve it. Names only; nothing is fetched to decide.

Only files at the top of the repository count: sub-folders hold other formats of the same weights (`original/`, `onnx/`),
and taking them would download a model twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from crossfade.errors import WeightsInvalid

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Formats that can run code when they are loaded. Never fetched (DESIGN promise 8)."""

_NEVER = (*PICKLES, ".gguf", ".py", ".so")

_WANTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    "tokenizer*",
    "vocab*",
    "merges*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "spiece.model",
    "sentencepiece*",
    "tekken.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def select(repo: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names to fetch, sorted.

    Raises WeightsInvalid saying what the repository holds instead of safetensors and a config.
    """
    top = [name for name in names if "/" not in name and not name.startswith(".") and "\\" not in name]
    wanted = {name for name in top if not name.endswith(_NEVER) and any(fnmatchcase(name, pattern) for pattern in _WANTED)}
    tensors = {name for name in wanted if name.endswith(".safetensors")}
    if not tensors:
        raise WeightsInvalid(_why_no_safetensors(repo, names))
    if "config.json" not in wanted:
        raise WeightsInvalid(
            f"{repo} has safetensors but no config.json, so no engine can tell what model they are; an adapter (LoRA) alone "
            "cannot be served. Name the repository of the whole model as huggingface: in the plan."
        )
    # Mistral publishes the same weights a second time in its own layout, with an index of their own where they are many files
    doubles = {name for name in wanted if name.startswith("consolidated")}
    return tuple(sorted(wanted - doubles if tensors - doubles else wanted))


def _why_no_safetensors(repo: str, names: Sequence[str]) -> str:
    if any(name.endswith(".gguf") for name in names):
        return (
            f"{repo} holds only GGUF files, which are llama.cpp's format and not served by this migration. "
            "Name the repository they were made from (its model card says 'base model') as huggingface: in the plan."
        )
    if any(name.endswith(PICKLES) for name in names):
        return (
            f"{repo} holds its weights only as pickles, which can run code when they are loaded, and Crossfade never fetches those. "
            "Look for a revision or a repository with *.safetensors, or ask its owner to convert it."
        )
    return f"{repo} holds no *.safetensors at the top of the repository. Name a repository of model weights as huggingface: in the plan."
