"""How to serve a model on the GPUs there are: scheme, GPUs, longest request and cache, each with its reason; or why not, and what then.

Pure and fast (a millisecond). The caller brings the configuration, the counted weights, the GPUs and the load; an estimate that the
server later contradicts is corrected by the server's own log.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.assess.budget import DEFAULT_UTILIZATION, GIB, SPARE_BYTES
from crossfade.assess.fit import Fit, Question, Shortfall, best_fit, concurrency
from crossfade.assess.kv_cache import token_bytes
from crossfade.assess.schemes import remark
from crossfade.assess.tensors import Made
from crossfade.assess.ways_out import WayOut, ways_out

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One line of the table a person checks."""

    what: str
    value: str
    because: str


@dataclass(frozen=True)
class Sizing:
    """How to start the server. Bytes are per GPU; `devices` are for CUDA_VISIBLE_DEVICES.

    `gpu_memory_utilization` is None without GPUs. `kv_cache_bytes` is None when vLLM may take all of its share, which it may where nobody
    else uses the GPU.
    """

    scheme: Made
    tensor_parallel_size: int
    devices: tuple[int, ...]
    max_model_len: int
    max_num_seqs: int
    gpu_memory_utilization: float | None
    kv_cache_bytes: int | None
    weight_bytes: int
    room_bytes: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class DoesNotFit:
    """Why it cannot work on these GPUs, and the cheapest changes that would make it."""

    reason: str
    rows: tuple[Row, ...]
    ways_out: tuple[WayOut, ...]


def size(question: Question) -> Sizing | DoesNotFit:
    """The gentlest way to serve the model under the load, or why there is none."""
    found = best_fit(question)
    if isinstance(found, Shortfall):
        return DoesNotFit(_reason(question, found), (*_given(question), *_short(question, found)), ways_out(question))
    shared = bool(found.team) and (
        max(device.gpu.used_bytes for device in found.team) > SPARE_BYTES or question.source.still_to_come_bytes > 0
    )
    exact = shared or not found.team or question.wishes.kv_cache_bytes != "auto"
    cache = (found.room // MIB * MIB if found.team else -(-found.room // MIB) * MIB) if exact else None
    sequences = max(question.wishes.max_num_seqs, round(concurrency(question.load)))
    return Sizing(
        scheme=found.scheme,
        tensor_parallel_size=found.tensor_parallel,
        devices=tuple(device.index for device in found.team),
        max_model_len=found.max_model_len,
        max_num_seqs=sequences,
        gpu_memory_utilization=found.share or None,
        kv_cache_bytes=cache,
        weight_bytes=found.weight_bytes,
        room_bytes=found.room,
        rows=(*_given(question), *_chosen(question, found), *_memory(question, found, cache, shared=shared)),
    )


def full_length_concurrency(cache_tokens: int, max_model_len: int) -> float:
    """How many requests of the full length the cache holds; vLLM prints the same number when it has started."""
    return cache_tokens / max_model_len


def _reason(question: Question, short: Shortfall) -> str:
    where = f"{len(short.team)} x {short.team[0].gpu.name} ({gib(short.team[0].gpu.total_bytes)} each)" if short.team else "the GPUs given"
    return f"{question.model.model_type} does not fit {where}; the closest try, scheme {short.scheme}: {short.why}"


def _given(question: Question) -> list[Row]:
    model, census = question.model, question.weights
    counted = "every tensor in the safetensors headers" if census.exact else "the size of all files; the linear layers are estimated"
    element = question.cache_element_bytes
    kinds = ", ".join(f"{group.layers} {group.kind}" for group in model.groups)
    rows = [
        Row("weights as published", gib(census.total_bytes), counted),
        Row(
            "cache per token", f"{token_bytes(model, element_bytes=element):,} bytes", f"layers: {kinds}; {element} bytes a number, one GPU"
        ),
    ]
    if question.load:
        load = question.load
        rows.append(Row("requests at once", f"{load.concurrency:.1f}", load.why()))
        because = f"at once x ({load.prompt_tokens:g} prompt + {load.output_tokens:g} output tokens) x 1.3 for bursts"
        rows.append(Row("tokens to hold", f"{load.needed_tokens:,}", because))
    else:
        rows.append(
            Row("requests at once", "unknown", "nobody measured or planned the load; room for one request of the longest kind is made")
        )
    if question.source.expected_bytes or question.source.resident_bytes:
        because = f"{gib(question.source.still_to_come_bytes)} of it are not loaded now and are kept free"
        rows.append(Row("the source's memory", gib(max(question.source.expected_bytes, question.source.resident_bytes)), because))
    return rows + [Row("note", "", note) for note in model.notes]


def _short(question: Question, short: Shortfall) -> list[Row]:
    """The closest try, so that a person sees which number is in the way."""
    if not short.team:
        return [Row("closest try", "none", short.why)]
    gpu = short.team[0].gpu
    wanted, _, who = question.lengths()
    return [
        Row("max_model_len wanted", f"{wanted:,}", who),
        Row("closest try", f"scheme {short.scheme} on {len(short.team)} x {gpu.name}", short.why),
        Row("free on each GPU", gib(min(device.free_bytes for device in short.team)), f"of {gib(gpu.total_bytes)}"),
        Row("weights on each GPU", gib(short.weight_bytes), f"scheme {short.scheme}, shared by {len(short.team)}"),
        Row(
            "room for the cache",
            gib(short.room),
            "what is left after weights, working memory and the spare; below 0: even these do not fit",
        ),
    ]


def _chosen(question: Question, fit: Fit) -> list[Row]:
    model, parallel = question.model, fit.tensor_parallel
    capability = fit.team[0].gpu.capability if fit.team else None
    if model.quantized:
        why = f"the weights are published as {model.quantized} and stay so"
    elif question.wishes.scheme != "auto":
        why = "the plan says so"
    else:
        why = "full precision fits" if fit.scheme == "none" else "the gentlest scheme that fits; gentler ones do not"
    said = remark(fit.scheme, model, capability) if fit.team else ""
    rows = [Row("scheme", fit.scheme, f"{why}; {said}" if said else why)]
    if fit.team:
        names = ", ".join(str(device.index) for device in fit.team)
        why = "the fewest GPUs that suffice" if question.wishes.tensor_parallel == "auto" else "the plan says so"
        rows.append(
            Row(
                "tensor_parallel_size",
                str(parallel),
                f"{why}: {model.heads} heads and {model.kv_heads} KV heads can be shared by {parallel}",
            )
        )
        rows.append(Row("GPUs", names, f"{fit.team[0].gpu.name}, the freest of their kind"))
    wanted, _, who = question.lengths()
    shortened = "" if fit.max_model_len == wanted else f"; {wanted:,} wanted ({who}), and the cache has no room for more"
    rows.append(Row("max_model_len", f"{fit.max_model_len:,}", shortened.removeprefix("; ") or who))
    return rows


def _memory(question: Question, fit: Fit, cache: int | None, *, shared: bool) -> list[Row]:
    needed = max(fit.load_bytes, fit.start_bytes)
    what = "the load" if fit.load_bytes >= fit.start_bytes else "one request of max_model_len"
    if not fit.team:
        because = f"{what} needs {gib(needed)}; no GPU is known, so nothing limits it"
        return [Row("weights", gib(fit.weight_bytes), fit.scheme), Row("kv_cache", gib(fit.room), because)]
    gpu = fit.team[0].gpu
    free = min(device.free_bytes for device in fit.team)
    others = f"others hold {gib(gpu.total_bytes - free)} of {gib(gpu.total_bytes)}, and {gib(SPARE_BYTES)} stay free"
    why = "vLLM's default; the GPU is free enough" if fit.share == DEFAULT_UTILIZATION else others
    needs = fit.needs
    rows = [
        Row("gpu_memory_utilization", f"{fit.share:.2f}", why),
        Row("weights on each GPU", gib(fit.weight_bytes), f"scheme {fit.scheme}, shared by {fit.tensor_parallel}"),
        Row(
            "working memory",
            gib(needs.bytes),
            f"{'measured' if question.measured else 'estimated'}: activations {gib(needs.activations)}, CUDA graphs {gib(needs.graphs)}, "
            f"other {gib(needs.other)}",
        ),
        Row("room for the cache", gib(fit.room), f"{fit.share:.2f} x {gib(gpu.total_bytes)} - weights - working memory"),
        Row("cache needed", gib(needed), f"{what}: load {gib(fit.load_bytes)}, one request of max_model_len {gib(fit.start_bytes)}"),
    ]
    if cache is not None:
        why = "others use this GPU: an exact size does not depend on what they do while vLLM starts (H9)" if shared else "the plan says so"
        rows.append(Row("kv_cache", f"{cache:,} bytes", why))
    return rows


def gib(size_bytes: int) -> str:
    """`17179869184` as `16.00 GiB`."""
    return f"{size_bytes / GIB:.2f} GiB"
