"""A Hugging Face Llama folder as one GGUF file, so that the lab's source and target serve the very same weights.

It does what llama.cpp's converter does for plain Llama models with a byte-level BPE tokenizer, and no more: one safetensors
file, no RoPE scaling, no attention bias. Anything else is refused rather than converted wrongly.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, LlamaFileType
from gguf.utility import LocalTensor, SafetensorsLocal
from pydantic import BaseModel, ConfigDict, ValidationError

from crossfade.errors import WeightsInvalid
from crossfade.lab.ggml_quantize import quantize_rows

Scheme = Literal["F16", "Q8_0", "Q4_K_M"]
Numbers = npt.NDArray[np.float32]

FILE_TYPES = {
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_K_M": LlamaFileType.MOSTLY_Q4_K_M,
}


class _Rope(BaseModel):
    rope_theta: float = 10_000.0
    rope_type: Literal["default"] = "default"


class _LlamaConfig(BaseModel):
    """What of config.json reaches the GGUF file."""

    model_config = ConfigDict(extra="ignore")

    model_type: Literal["llama"]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    vocab_size: int
    bos_token_id: int
    eos_token_id: int
    attention_bias: Literal[False] = False
    rope_parameters: _Rope = _Rope()


def write_gguf(model_folder: Path, out: Path, scheme: Scheme) -> Path:
    """Write `out` from the folder's safetensors, tokenizer and chat template, and return it.

    A file that is already there is returned untouched, whatever is in it; a new one appears whole or not at all.
    Raises WeightsInvalid when the folder is not a Llama model this converter knows.
    """
    if out.exists():
        return out
    try:
        config = _LlamaConfig.model_validate_json((model_folder / "config.json").read_bytes())
        tensors = SafetensorsLocal(model_folder / "model.safetensors").tensors
        tokenizer = json.loads((model_folder / "tokenizer.json").read_bytes())
        template = (model_folder / "chat_template.jinja").read_text()
    except (OSError, ValueError, ValidationError) as error:
        raise WeightsInvalid(f"{model_folder} is not a Llama model the lab can convert to GGUF: {error}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        writer = gguf.GGUFWriter(temporary, "llama")
        writer.add_name(model_folder.name)
        _add_architecture(writer, config, scheme)
        _add_tokenizer(writer, config, tokenizer, template)
        _add_tensors(writer, config, tensors, scheme)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return out


def _add_architecture(writer: gguf.GGUFWriter, config: _LlamaConfig, scheme: Scheme) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(FILE_TYPES[scheme])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, config: _LlamaConfig, tokenizer: dict[str, Any], template: str) -> None:
    control = {entry["id"]: entry["content"] for entry in tokenizer["added_tokens"]}
    token_of = {number: token for token, number in tokenizer["model"]["vocab"].items()} | control
    numbers = range(len(token_of))
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token_of[number] for number in numbers])
    writer.add_token_types([gguf.TokenType.CONTROL if number in control else gguf.TokenType.NORMAL for number in numbers])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)


def _add_tensors(writer: gguf.GGUFWriter, config: _LlamaConfig, tensors: dict[str, LocalTensor], scheme: Scheme) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for source_name, tensor in tensors.items():
        name = names.get_name(source_name, try_suffixes=(".weight",))
        if name is None:
            raise WeightsInvalid(f"{source_name} is no tensor of a plain Llama model; the lab cannot convert it to GGUF.")
        numbers = _numbers(tensor)
        if "attn_q" in name:
            numbers = _interleave_rope_halves(numbers, config.num_attention_heads)
        elif "attn_k" in name:
            numbers = _interleave_rope_halves(numbers, config.num_key_value_heads)
        _add_tensor(writer, name, numbers, _type_of(name, numbers, config.num_hidden_layers, scheme))


def _add_tensor(writer: gguf.GGUFWriter, name: str, numbers: Numbers, stored_as: GGMLQuantizationType) -> None:
    if stored_as is GGMLQuantizationType.F32:
        writer.add_tensor(name, numbers)
    elif stored_as is GGMLQuantizationType.F16:
        writer.add_tensor(name, numbers.astype(np.float16))
    elif stored_as is GGMLQuantizationType.Q8_0:
        writer.add_tensor(name, gguf.quantize(numbers, stored_as), raw_dtype=stored_as)
    else:
        writer.add_tensor(name, quantize_rows(numbers, stored_as), raw_dtype=stored_as)


def _numbers(tensor: LocalTensor) -> Numbers:
    part = tensor.data_range
    with part.filename.open("rb") as file:
        file.seek(part.offset)
        raw = file.read(part.size)
    if len(raw) != part.size:
        raise WeightsInvalid(f"{part.filename} is cut short: {part.size - len(raw)} bytes of a tensor are missing.")
    if tensor.dtype == "BF16":  # numpy has no bfloat16: it is the upper half of a float32
        numbers = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif tensor.dtype in ("F16", "F32"):
        numbers = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[tensor.dtype]).astype(np.float32)
    else:
        raise WeightsInvalid(f"{part.filename} holds {tensor.dtype} tensors; the lab converts BF16, F16 and F32.")
    return numbers.reshape(tensor.shape)


def _interleave_rope_halves(weight: Numbers, heads: int) -> Numbers:
    """Hugging Face rotates the two halves of a head, llama.cpp neighbouring pairs: reorder the rows to match."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _type_of(name: str, numbers: Numbers, layers: int, scheme: Scheme) -> GGMLQuantizationType:
    """llama.cpp's own mix: norms stay F32; in Q4_K_M the embeddings and some value and down projections get six bits."""
    if numbers.ndim == 1:
        return GGMLQuantizationType.F32
    if scheme != "Q4_K_M":
        return GGMLQuantizationType[scheme]
    if name in ("token_embd.weight", "output.weight"):
        return GGMLQuantizationType.Q6_K
    if "attn_v" in name or "ffn_down" in name:
        layer, eighth = int(name.split(".")[1]), layers // 8
        if layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2:
            return GGMLQuantizationType.Q6_K
    return GGMLQuantizationType.Q4_K
