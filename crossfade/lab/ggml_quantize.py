"""K-quants by ggml's own quantizer, taken out of the llama.cpp library that the `xllamacpp` wheel carries.

The `gguf` package quantizes Q8_0 in numpy but leaves the K-quants to llama.cpp. The wheel exports no Python function for
them, so its C function `ggml_quantize_chunk` is called through ctypes.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from crossfade.errors import QuantizeFailed, ToolMissing


def quantize_rows(rows: npt.NDArray[np.float32], to: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """`rows` as ggml blocks of the type `to`, one row of bytes for each row of numbers.

    Raises QuantizeFailed when a row is not a whole number of blocks (256 numbers in a K-quant), ToolMissing without xllamacpp.
    """
    count, width = rows.shape
    block_numbers, block_bytes = gguf.GGML_QUANT_SIZES[to]
    if width % block_numbers:
        raise QuantizeFailed(
            f"A row of {width} numbers cannot be stored as {to.name}: it takes multiples of {block_numbers}. Use Q8_0 or F16."
        )
    numbers = np.ascontiguousarray(rows, dtype=np.float32)
    blocks = np.empty((count, width // block_numbers * block_bytes), dtype=np.uint8)
    written = _ggml_quantize_chunk()(int(to), numbers.ctypes.data, blocks.ctypes.data, 0, count, width, None)
    if written != blocks.nbytes:
        raise QuantizeFailed(f"ggml wrote {written} bytes of {to.name}, not {blocks.nbytes}; the xllamacpp and gguf packages do not fit.")
    return blocks


@functools.cache
def _ggml_quantize_chunk() -> Callable[..., int]:
    package = importlib.util.find_spec("xllamacpp")
    if package is None or package.origin is None:
        raise ToolMissing("xllamacpp is not installed; it comes with the lab: pip install 'crossfade[lab]'.")
    library = next(Path(package.origin).parent.glob("xllamacpp*.so"), None)
    if library is None:
        raise ToolMissing(f"No llama.cpp library beside {package.origin}; reinstall the xllamacpp wheel.")
    function: Any = ctypes.CDLL(str(library)).ggml_quantize_chunk
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    # type, from, to, first row, rows, numbers per row, importance matrix (none)
    function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    function.restype = ctypes.c_size_t
    return function  # type: ignore[no-any-return]
