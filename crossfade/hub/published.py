"""Published quantizations of a model: what an organisation offers, read from cards and configurations before anything is fetched.

A card's `base_model` is a claim of whoever uploaded the files, so only organisations the caller names are asked, and everything that
can be checked without the weights is: one base and no other, safetensors, a method and its bits, and the base's own network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub.hf_api import ModelInfo

from crossfade.assess.shape import mismatches, shape_from_config
from crossfade.assess.storage import Offer, stored_bits
from crossfade.assess.tensors import count_header
from crossfade.errors import WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.failures import explain, offline
from crossfade.hub.headers import fetch_headers
from crossfade.hub.repository import ResolvedRepository, read_config, resolve

_MOST = 30
"""Repositories of one organisation that are looked at; the hub gives the most downloaded first."""


@dataclass(frozen=True)
class PassedOver:
    """A repository that calls itself a quantization of the base and is not taken, and why."""

    repo: str
    why: str


@dataclass(frozen=True)
class Found:
    """What the organisations offer, in the order they were named, and what was passed over."""

    offers: tuple[Offer, ...]
    passed_over: tuple[PassedOver, ...]


def find_published(
    base: ResolvedRepository, config: Mapping[str, object], organisations: Sequence[str], access: Access | None = None
) -> Found:
    """Every usable quantization of `base` that one of `organisations` publishes; `config` is the base's own.

    Raises Unreachable or TemporaryError when a question stays without an answer, WeightsInvalid when the hub refuses to list: a
    search that did not happen is not a search that found nothing.
    """
    access = access or Access.from_environment()
    if access.offline:
        raise offline(base.repo, base.commit)
    offers, passed_over = list[Offer](), list[PassedOver]()
    for organisation in dict.fromkeys(organisations):
        for info in _listed(base, organisation, access):
            try:
                offers.append(_offer(info, base, config, access))
            except WeightsInvalid as error:
                passed_over.append(PassedOver(info.id, str(error)))
    return Found(tuple(offers), tuple(passed_over))


def _listed(base: ResolvedRepository, organisation: str, access: Access) -> list[ModelInfo]:
    tag = f"base_model:quantized:{base.repo}"
    try:
        listed = access.api().list_models(author=organisation, filter=tag, sort="downloads", limit=_MOST, cardData=True)
        return [info for info in listed if info.id != base.repo]
    except Exception as error:  # huggingface_hub has no common root for what it raises
        raise explain(error, f"the list of quantizations of {base.repo} by {organisation}", "main", access) from None


def _offer(info: ModelInfo, base: ResolvedRepository, base_config: Mapping[str, object], access: Access) -> Offer:
    """Raises WeightsInvalid saying why it is not taken; TemporaryError goes through."""
    named = info.card_data.get("base_model") if info.card_data else None
    if named not in (base.repo, [base.repo]):
        raise WeightsInvalid(f"its card names {named or 'no base'}, not {base.repo} alone")
    resolved = resolve(info.id, "main", access)
    config = read_config(resolved, access)
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    if not isinstance(quantization, Mapping) or not isinstance(method, str):
        raise WeightsInvalid("its config.json has no quantization_config with a quant_method")
    bits = stored_bits(quantization)
    if not bits:
        raise WeightsInvalid(f"its quantization_config ({method}) does not say how many bits a weight has")
    if different := mismatches(shape_from_config(base_config), shape_from_config(config)):
        what = ", ".join(f"{each.what} is {each.target}, not {each.source}" for each in different)
        raise WeightsInvalid(f"it is another network: {what}")
    census = count_header(fetch_headers(resolved, access))
    notes = _other_files(base, resolved)
    return Offer(resolved.repo, resolved.commit, method, bits, census, config, resolved.total_bytes, notes)


def _other_files(base: ResolvedRepository, published: ResolvedRepository) -> tuple[str, ...]:
    """Files that decide the tokens and are not the base's own: nobody is stopped for them, because tools write them anew (H2)."""
    own = {file.path: (file.sha256, file.git_sha1) for file in base.files}
    theirs = {file.path: (file.sha256, file.git_sha1) for file in published.files}
    watched = ("tokenizer.json", "tokenizer.model", "chat_template.jinja", "generation_config.json")
    return tuple(f"{name} differs from the base's" for name in watched if name in own and theirs.get(name) != own[name])
