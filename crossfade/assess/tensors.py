"""How many bytes the weights are, and how many they become when quantized.

A quantizer makes the linear layers smaller and leaves embeddings, head, norms and routers as they are. A safetensors header
names every tensor with its shape, so the result is exact up to the file's own header. An index alone gives the sum only; then
everything but the embedding and the head is taken for linear, which is right to about one percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

from crossfade.assess.architecture import Architecture
from crossfade.errors import WeightsInvalid

Made = Literal["none", "fp8", "w8a8", "awq", "gptq"]
"""A scheme that weights can really have; `auto` is a wish."""

GROUP = 128
"""Weights that share a scale in the 4-bit schemes."""

_DTYPE_BITS: Mapping[str, int] = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
_FULL = ("F32", "F16", "BF16")
_KEPT = ("embed", "lm_head", "wte", "wpe", "output.weight", "norm", "router", ".gate.weight", "rotary", "conv")


@dataclass(frozen=True)
class WeightCensus:
    """The weights counted. `linear_*` is the part a quantizer changes: its bytes now, numbers, layers, and output rows.

    `groups` are its pieces of 128 numbers along a row. `exact` is False when only the sum was known.
    """

    total_bytes: int
    linear_bytes: int
    linear_elements: int
    linear_rows: int
    groups: int
    matrices: int
    exact: bool = True

    def bytes_as(self, scheme: Made) -> int:
        """Bytes of all tensors under `scheme`, as llm-compressor writes them: 16-bit scales a row or a group, packed 4-bit numbers."""
        kept = self.total_bytes - self.linear_bytes
        if scheme == "none":
            return self.total_bytes
        if scheme in ("fp8", "w8a8"):
            return kept + self.linear_elements + 2 * self.linear_rows
        packed = kept + self.linear_elements // 2 + 2 * self.groups + 16 * self.matrices
        return packed + self.groups // 2 if scheme == "awq" else packed


def count_header(headers: Iterable[Mapping[str, object]]) -> WeightCensus:
    """The census of safetensors headers, one mapping of tensor names a file.

    Raises WeightsInvalid for an entry that is not of the format.
    """
    total = linear_bytes = elements = rows = groups = matrices = 0
    for header in headers:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = _entry(name, entry)
            count = prod(shape)
            size = ceil(count * _DTYPE_BITS[dtype] / 8)
            total += size
            if dtype in _FULL and len(shape) == 2 and name.endswith(".weight") and not any(mark in name for mark in _KEPT):
                linear_bytes += size
                elements += count
                rows += shape[0]
                groups += shape[0] * ceil(shape[1] / GROUP)
                matrices += 1
    return WeightCensus(total, linear_bytes, elements, rows, groups, matrices)


def count_index(total_bytes: int, model: Architecture) -> WeightCensus:
    """The census as well as an index's `total_size` (or the files' sizes) and the configuration allow."""
    elements = max(0, total_bytes // model.element_bytes - model.embedding_elements)
    matrices = model.layers * (4 + 3 * max(1, model.experts))
    return WeightCensus(
        total_bytes=total_bytes,
        linear_bytes=elements * model.element_bytes,
        linear_elements=elements,
        linear_rows=elements // max(1, model.hidden),
        groups=ceil(elements / GROUP),
        matrices=matrices,
        exact=False,
    )


def _entry(name: str, entry: object) -> tuple[str, list[int]]:
    dtype = entry.get("dtype") if isinstance(entry, Mapping) else None
    shape = entry.get("shape") if isinstance(entry, Mapping) else None
    if not isinstance(dtype, str) or dtype not in _DTYPE_BITS or not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
        raise WeightsInvalid(f"the safetensors header describes {name!r} in no known form ({dtype}); use another revision of the weights.")
    return dtype, shape
