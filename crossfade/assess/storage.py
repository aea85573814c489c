"""How the weights will be stored: as published, in somebody's published quantization, or in one made here; and why.

`quantize: auto` begins with the gentlest scheme that fits. Full precision needs nothing else. Where fewer bits are needed, a published
quantization with at least as many is preferred to making one: others have served it, and no GPU is spent on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crossfade.assess.architecture import read_architecture
from crossfade.assess.fit import Question
from crossfade.assess.schemes import PUBLISHED
from crossfade.assess.sizing import Sizing, size
from crossfade.assess.tensors import Made, WeightCensus

BITS: Mapping[Made, int] = {"none": 16, "fp8": 8, "w8a8": 8, "awq": 4, "gptq": 4}


@dataclass(frozen=True)
class Offer:
    """A published quantization, as far as it is known before it is fetched. `notes` are what a person should know of it."""

    repo: str
    commit: str
    method: str
    bits: int
    weights: WeightCensus
    config: Mapping[str, object]
    total_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Considered:
    """An offer that was looked at and what came of it."""

    offer: Offer
    why: str


@dataclass(frozen=True)
class Storage:
    """The decision. `offer` is the published quantization to fetch instead of the base; `scheme` is what is made here otherwise."""

    scheme: Made
    sizing: Sizing
    why: str
    offer: Offer | None = None
    considered: tuple[Considered, ...] = ()


def stored_bits(quantization: Mapping[str, object]) -> int:
    """Bits of a stored weight by a `quantization_config`; 0 when it does not say. Of several groups the fewest."""
    method = str(quantization.get("quant_method", ""))
    groups = quantization.get("config_groups")
    if isinstance(groups, Mapping):
        parts = [group.get("weights") for group in groups.values() if isinstance(group, Mapping)]
        bits = [part.get("num_bits") for part in parts if isinstance(part, Mapping)]
        return min((number for number in bits if isinstance(number, int)), default=0)
    for name in ("bits", "w_bit", "num_bits"):
        if isinstance(number := quantization.get(name), int):
            return number
    if method == "bitsandbytes":
        return 4 if quantization.get("load_in_4bit") else 8 if quantization.get("load_in_8bit") else 0
    return {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4}.get(method, 0)


def choose_storage(question: Question, found: Sizing, offers: Sequence[Offer]) -> Storage:
    """The storage for a `quantize: auto` whose sizing is `found`; `offers` in the order in which their publishers are preferred."""
    if found.scheme == "none":
        why = "full precision fits" if found.devices else "no GPU is known that full precision would not fit"
        return Storage("none", found, f"{why}, so nothing is quantized")
    needed, considered = BITS[found.scheme], list[Considered]()
    for offer in sorted(offers, key=lambda offer: -offer.bits):
        if offer.method not in PUBLISHED:
            considered.append(Considered(offer, f"vLLM is not known to serve the method {offer.method}"))
        elif offer.bits < needed:
            considered.append(Considered(offer, f"{offer.bits} bits, and {needed} fit: {found.scheme} made here changes answers less"))
        else:
            sized = size(_with(question, offer))
            if isinstance(sized, Sizing):
                why = f"{offer.repo} publishes the same model in {offer.bits} bits ({offer.method}); full precision does not fit"
                return Storage("none", sized, why, offer, (*considered, Considered(offer, "taken")))
            considered.append(Considered(offer, sized.reason))
    looked = f"none of {len(considered)} published quantizations will do" if considered else "no published quantization was found"
    return Storage(found.scheme, found, f"full precision does not fit, {looked}; {found.scheme} is made here", None, tuple(considered))


def _with(question: Question, offer: Offer) -> Question:
    return replace(question, model=read_architecture(offer.config), weights=offer.weights)
