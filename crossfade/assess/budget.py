"""What is left of a GPU for the cache, when weights, working memory and neighbours have theirs."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from crossfade.assess.architecture import Architecture

GIB = 2**30
DEFAULT_UTILIZATION = 0.92
"""vLLM 0.32's own share of the whole memory; earlier releases took 0.90."""

SPARE_BYTES = GIB
"""Left free on the GPU: neighbours move a little, and vLLM refuses to start when less is free than it asks for (H9, H10)."""


@dataclass(frozen=True)
class Overhead:
    """What each GPU needs besides weights and cache: the largest step's activations, CUDA graphs, and what the driver takes."""

    activations: int
    graphs: int
    other: int = 160 * 2**20

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.activations + self.graphs + self.other


def overhead(model: Architecture, *, weight_bytes: int, tensor_parallel: int, chunk: int, sequences: int) -> Overhead:
    """An estimate, before a server has printed the real numbers.

    Activations are 1 to 3 GiB in practice and grow with `chunk` (`max_num_batched_tokens`): the widest layer's input and output at
    16 bits, and the sampler's 32-bit scores over the vocabulary for `sequences`, three copies. Graphs take 0.5 to 2 GiB, about a
    twentieth of the weights. A small model needs less than these floors.
    """
    widest = 4 * model.hidden + 2 * model.intermediate // tensor_parallel
    estimate = 2 * chunk * widest + 3 * 4 * sequences * model.vocab
    graphs = min(2 * GIB, max(GIB // 2, weight_bytes // 20))
    return Overhead(activations=min(3 * GIB, max(GIB, estimate)), graphs=graphs)


def chunk_tokens(total_bytes: int) -> int:
    """The `max_num_batched_tokens` vLLM's server chooses by itself for a GPU of this size."""
    return 8192 if total_bytes >= 70 * GIB else 2048


def utilization(total_bytes: int, free_bytes: int) -> float:
    """The largest `gpu_memory_utilization` that is safe, rounded down to two places; 0 when nothing is."""
    share = floor(max(0, free_bytes - SPARE_BYTES) / total_bytes * 100) / 100
    return min(DEFAULT_UTILIZATION, share)


def cache_room(total_bytes: int, share: float, weight_bytes: int, needs: Overhead) -> int:
    """Bytes left for the cache on one GPU; below 0 when even the weights do not fit."""
    return int(total_bytes * share) - weight_bytes - needs.bytes
