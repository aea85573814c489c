"""What to change when a model does not fit, cheapest first, and each tried by the same arithmetic before it is offered.

Cost is what a change takes from users or the budget: a shorter limit nobody reaches is free, a coarser cache costs a little quality,
coarser weights more, a queue costs time, hardware costs money. Unloading the source is never offered: it is what a rollback
returns to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from crossfade.assess.fit import SHORTEST, Fit, Question, best_fit, most_at_once
from crossfade.assess.gpus import Gpu
from crossfade.assess.load import Load
from crossfade.assess.tensors import Made

GIB = 2**30
OFFERED = 3
_SIZES_GIB = (16, 24, 32, 48, 80, 96, 141, 192)
_FP8_CACHE = 8.9
_MOST_GPUS_MORE = 7


@dataclass(frozen=True)
class WayOut:
    """One change that makes it fit. `change` is what to do, `numbers` what comes of it, `price` what it costs."""

    change: str
    numbers: str
    price: str


@dataclass(frozen=True)
class _Change:
    question: Question
    change: str
    price: str


_Search = Callable[[Question], Iterator[_Change]]


def ways_out(question: Question) -> tuple[WayOut, ...]:
    """Up to three changes that make it fit, cheapest first; then staying on the source, if fewer than three were found."""
    found = [way for search in _ONE_CHANGE if (way := _first_that_fits(search(question)))]
    found += [way for search in _TWO_CHANGES if len(found) < OFFERED and (way := _first_that_fits(search(question)))]
    found = found[:OFFERED]
    if len(found) < OFFERED:
        found.append(WayOut("leave this model on the source", "nothing changes", "no batching, no metrics of the engine"))
    return tuple(found)


def _first_that_fits(changes: Iterator[_Change]) -> WayOut | None:
    for each in changes:
        fit = best_fit(each.question)
        if isinstance(fit, Fit):
            return WayOut(each.change, _numbers(fit), each.price)
    return None


def _numbers(fit: Fit) -> str:
    gpus = f"{fit.tensor_parallel} x {fit.team[0].gpu.name}, " if fit.team else ""
    return (
        f"{gpus}scheme {fit.scheme}: {fit.weight_bytes / GIB:.1f} GiB of weights on each, {fit.room / GIB:.1f} GiB of cache "
        f"for {max(fit.load_bytes, fit.start_bytes) / GIB:.1f} GiB needed, max_model_len {fit.max_model_len:,}"
    )


def _shorter(question: Question) -> Iterator[_Change]:
    """Powers of two: a limit people recognise is easier to agree on than the longest possible one."""
    wanted = question.lengths()[0]
    least = max(SHORTEST, question.load.mean_tokens if question.load else 0)
    length = 1 << max(0, (wanted - 1).bit_length() - 1)
    while length >= least:
        wishes = replace(question.wishes, max_model_len=length)
        yield _Change(
            replace(question, wishes=wishes), f"max_model_len: {length}", f"requests of {length:,} to {wanted:,} tokens are refused"
        )
        length //= 2


def _smaller_cache(question: Question) -> Iterator[_Change]:
    capable = all(gpu.capability is not None and gpu.capability >= _FP8_CACHE for gpu in question.gpus)
    if capable and question.wishes.cache_dtype == "auto":
        wishes = replace(question.wishes, cache_dtype="fp8")
        yield _Change(
            replace(question, wishes=wishes), "flags: {kv_cache_dtype: fp8}", "a little accuracy on long prompts; parity shows how much"
        )


def _smaller_weights(question: Question) -> Iterator[_Change]:
    if question.wishes.scheme == "auto" or question.model.quantized:
        return
    stronger: dict[Made, str] = {"fp8": "about none", "w8a8": "a little accuracy", "awq": "some accuracy, and calibration prompts"}
    for scheme, price in stronger.items():
        if scheme != question.wishes.scheme:
            wishes = replace(question.wishes, scheme=scheme)
            yield _Change(replace(question, wishes=wishes), f"quantize: {scheme}", f"{price}; parity shows how much")


def _both_smaller(question: Question) -> Iterator[_Change]:
    for weights in _smaller_weights(question):
        for other in (_smaller_cache, _shorter, _fewer_at_once):
            for both in other(weights.question):
                yield _Change(both.question, f"{weights.change}, and {both.change}", f"{weights.price}; {both.price}")


def _fewer_at_once(question: Question) -> Iterator[_Change]:
    load = question.load
    if load is None or load.concurrency <= 1:
        return
    if fitting := min(most_at_once(question), int(load.concurrency)):
        yield _Change(
            _with_at_once(question, load, fitting),
            f"plan for {fitting} requests at once",
            f"at the peak {load.concurrency - fitting:.0f} wait in vLLM's queue",
        )


def _with_at_once(question: Question, load: Load, at_once: int) -> Question:
    return replace(question, load=replace(load, at_once=float(at_once)))


def _more_gpus(question: Question) -> Iterator[_Change]:
    for gpu in sorted(question.gpus, key=lambda gpu: -gpu.total_bytes)[:1]:
        for more in range(1, _MOST_GPUS_MORE + 1):
            wishes = replace(question.wishes, tensor_parallel="auto")
            gpus = (*question.gpus, Gpu(gpu.name, more, gpu.total_bytes, 0, gpu.capability))
            yield _Change(
                replace(question, gpus=gpus, wishes=wishes),
                f"add {more} x {gpu.name} that nobody else uses",
                f"{more} more GPUs" if more > 1 else "one more GPU",
            )


def _bigger_gpu(question: Question) -> Iterator[_Change]:
    largest = max((gpu.total_bytes for gpu in question.gpus), default=0)
    capability = max((gpu.capability or 0 for gpu in question.gpus), default=0) or None
    for size in _SIZES_GIB:
        if size * GIB > largest * 1.05:
            gpu = Gpu(f"GPU of {size} GiB", 1, size * GIB, 0, capability)
            wishes = replace(question.wishes, tensor_parallel="auto")
            yield _Change(replace(question, gpus=(gpu,), wishes=wishes), f"a GPU of {size} GiB for the target alone", "another GPU")


def _more_and_fewer(question: Question) -> Iterator[_Change]:
    for more in _more_gpus(question):
        for fewer in _fewer_at_once(more.question):
            yield _Change(fewer.question, f"{more.change}, and {fewer.change}", f"{more.price}; {fewer.price}")


_ONE_CHANGE: tuple[_Search, ...] = (_shorter, _smaller_cache, _smaller_weights, _fewer_at_once, _more_gpus, _bigger_gpu)
_TWO_CHANGES: tuple[_Search, ...] = (_both_smaller, _more_and_fewer)
"""Each in the order of its cost; pairs only where single changes are not enough to choose from."""
