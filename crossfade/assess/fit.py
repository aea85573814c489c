"""The search: the first way of storing and spreading the weights that leaves room for the load, or how much is missing.

Schemes come from the gentlest to the strongest, for each the fewest GPUs first, for these the freest. Nothing here explains;
`sizing` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from crossfade.assess.architecture import Architecture
from crossfade.assess.budget import Overhead, cache_room, chunk_tokens, overhead, utilization
from crossfade.assess.gpus import Device, Gpu, teams
from crossfade.assess.kv_cache import longest_that_fits, sequence_bytes, start_bytes
from crossfade.assess.load import MARGIN, Load
from crossfade.assess.schemes import candidates, parallel_refusal, refusal
from crossfade.assess.source_memory import NO_SOURCE, SourceMemory
from crossfade.assess.tensors import Made, WeightCensus
from crossfade.plan.model import Scheme

SHORTEST = 2048
"""No `max_model_len` below this is chosen to make a model fit; a person may write one."""


@dataclass(frozen=True)
class Wishes:
    """What the plan fixes. `cache_dtype` fp8 halves the cache at some loss; it is never chosen without being asked for.

    `chunk_tokens` is vLLM's `max_num_batched_tokens`.
    """

    scheme: Scheme = "auto"
    tensor_parallel: int | Literal["auto"] = "auto"
    max_model_len: int | Literal["auto"] = "auto"
    kv_cache_bytes: int | Literal["auto"] = "auto"
    max_num_seqs: int = 64
    cache_dtype: Literal["auto", "fp8"] = "auto"
    chunk_tokens: int | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Question:
    """Everything that sizing knows. Without GPUs nothing can be too big, and only the need is computed.

    `source_context` is the context users have at the source today. `measured` replaces the estimated overhead.
    """

    model: Architecture
    weights: WeightCensus
    gpus: tuple[Gpu, ...] = ()
    load: Load | None = None
    wishes: Wishes = Wishes()
    source: SourceMemory = NO_SOURCE
    source_context: int | None = None
    measured: Overhead | None = None

    @property
    def cache_element_bytes(self) -> int:
        """Bytes of one number in the cache."""
        return 1 if self.wishes.cache_dtype == "fp8" else self.model.element_bytes

    def chunk_tokens(self, gpu_bytes: int) -> int:
        """Tokens that vLLM computes at once on a GPU of that memory: the plan's, else its own choice."""
        return chunk_tokens(gpu_bytes) if self.wishes.chunk_tokens == "auto" else self.wishes.chunk_tokens

    def lengths(self) -> tuple[int, int, str]:
        """The `max_model_len` wanted, the least that will do, and who says so."""
        context = self.model.context or 2**31
        if self.wishes.max_model_len != "auto":
            return self.wishes.max_model_len, self.wishes.max_model_len, "the plan says so"
        if self.load and self.load.longest_tokens:
            needed = min(context, ceil(self.load.longest_tokens / 256) * 256)
            return needed, needed, f"all but one request in a thousand need at most {self.load.longest_tokens:,} tokens, {self.load.source}"
        if self.source_context:
            needed = min(context, self.source_context)
            return needed, needed, "it is the context users have at the source"
        wanted = self.model.context or SHORTEST
        return wanted, min(wanted, SHORTEST), "it is the longest the model was made for, and nothing is known of the requests"


@dataclass(frozen=True)
class Fit:
    """A way that works. Bytes are per GPU. `team` is empty without GPUs; `share` is `gpu_memory_utilization`, 0 without GPUs."""

    scheme: Made
    team: tuple[Device, ...]
    share: float
    weight_bytes: int
    needs: Overhead
    room: int
    load_bytes: int
    start_bytes: int
    max_model_len: int

    @property
    def tensor_parallel(self) -> int:
        """GPUs that compute together."""
        return max(1, len(self.team))


@dataclass(frozen=True)
class Shortfall:
    """A way that does not. `missing` bytes per GPU; `room` is what is left for the cache, below 0 when the weights alone are too big."""

    scheme: Made
    team: tuple[Device, ...]
    missing: int
    room: int
    weight_bytes: int
    why: str


def best_fit(question: Question) -> Fit | Shortfall:
    """The first fit, else the shortfall that misses least."""
    if not question.gpus:
        return _unlimited(question)
    shortfalls = []
    for tried in _tries(question):
        if isinstance(tried, Fit):
            return tried
        shortfalls.append(tried)
    if not shortfalls:
        asked = question.wishes.tensor_parallel
        return Shortfall("none", (), 2**62, 0, 0, f"tensor_parallel_size {asked} needs {asked} GPUs of one kind, and there are fewer")
    return min(shortfalls, key=lambda shortfall: (shortfall.room <= 0, shortfall.missing))


def most_at_once(question: Question) -> int:
    """The most requests at once for which some way works; 0 when even one is too many, or no load is known."""
    if question.load is None:
        return 0
    single = replace(question, load=replace(question.load, at_once=1.0))
    return max((int(fit.room / fit.load_bytes) for fit in _tries(single) if isinstance(fit, Fit)), default=0)


def concurrency(load: Load | None) -> float:
    """Requests at once with the margin, that the cache must hold."""
    return (load.concurrency if load else 1.0) * (MARGIN if load else 1.0)


def _tries(question: Question) -> Iterator[Fit | Shortfall]:
    """Every way, in the order of preference."""
    capability = max((gpu.capability or 0 for gpu in question.gpus), default=0) or None
    together = [team for size in _sizes(question) for team in teams(question.gpus, size)]
    for scheme in candidates(question.wishes.scheme, question.model, capability):
        for team in together:
            yield _tried(question, scheme, team)


def _sizes(question: Question) -> list[int]:
    if question.wishes.tensor_parallel != "auto":
        return [question.wishes.tensor_parallel]
    most = sum(gpu.count for gpu in question.gpus)
    return [size for size in range(1, most + 1) if not parallel_refusal("none", question.model, size)]


def _tried(question: Question, scheme: Made, team: tuple[Device, ...]) -> Fit | Shortfall:
    model, gpu, size = question.model, team[0].gpu, len(team)
    weights = ceil(question.weights.bytes_as(scheme) / size)
    if why := refusal(scheme, model, gpu.capability) or parallel_refusal(scheme, model, size):
        return Shortfall(scheme, team, 2**61, 0, weights, why)
    free = min(device.free_bytes for device in team) - question.source.still_to_come_bytes
    share, chunk = utilization(gpu.total_bytes, free), question.chunk_tokens(gpu.total_bytes)
    needs = question.measured or overhead(
        model, weight_bytes=weights, tensor_parallel=size, chunk=chunk, sequences=question.wishes.max_num_seqs
    )
    room = cache_room(gpu.total_bytes, share, weights, needs)
    if room <= 0:
        why = f"weights and working memory alone would need {-room / 2**30:.1f} GiB more on each GPU"
        return Shortfall(scheme, team, -room, room, weights, why)
    asked = question.wishes.kv_cache_bytes
    usable = room if asked == "auto" else min(room, asked)
    length, start = _length(question, usable, chunk, size)
    load = _load_bytes(question, size)
    over = {
        "kv_cache of the plan": asked - room if asked != "auto" else 0,
        "one request of the longest kind": start - usable,
        "the load": load - usable,
    }
    what, missing = max(over.items(), key=lambda pair: pair[1])
    if missing > 0:
        return Shortfall(scheme, team, missing, room, weights, f"{what} would need {missing / 2**30:.1f} GiB more on each GPU")
    return Fit(scheme, team, share, weights, needs, usable, load, start, length)


def _length(question: Question, room: int, chunk: int, size: int) -> tuple[int, int]:
    """The longest acceptable `max_model_len`, and what vLLM wants for it. When none fits, the shortest acceptable one."""
    wanted, least, _ = question.lengths()
    element = question.cache_element_bytes
    start = start_bytes(question.model, wanted, chunk=chunk, element_bytes=element, tensor_parallel=size)
    if start <= room or wanted == least or room <= 0:
        length = wanted if start <= room else least
        return length, start_bytes(question.model, length, chunk=chunk, element_bytes=element, tensor_parallel=size)
    fitting = longest_that_fits(question.model, room, wanted, chunk=chunk, element_bytes=element, tensor_parallel=size)
    length = max(fitting, least)
    return length, start_bytes(question.model, length, chunk=chunk, element_bytes=element, tensor_parallel=size)


def _load_bytes(question: Question, size: int) -> int:
    if question.load is None:
        return 0
    one = sequence_bytes(question.model, question.load.mean_tokens, element_bytes=question.cache_element_bytes, tensor_parallel=size)
    return ceil(concurrency(question.load) * one)


def _unlimited(question: Question) -> Fit:
    """What is needed, on a machine nothing is known of: full precision unless the plan says otherwise, and a cache just large enough."""
    wish = question.wishes.scheme
    scheme: Made = "none" if wish == "auto" or question.model.quantized else wish
    length = question.lengths()[0]
    start = start_bytes(question.model, length, chunk=question.chunk_tokens(0), element_bytes=question.cache_element_bytes)
    load = _load_bytes(question, 1)
    asked = question.wishes.kv_cache_bytes
    room = max(start, load) if asked == "auto" else asked
    nothing = Overhead(0, 0, 0)
    return Fit(scheme, (), 0.0, question.weights.bytes_as(scheme), question.measured or nothing, room, load, start, length)
