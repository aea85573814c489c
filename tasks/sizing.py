"""Everything sizing needs to know, asked from whoever knows it: plan, driver, Prometheus, hub and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from crossfade.assess.architecture import Architecture, read_architecture
from crossfade.assess.fit import Question, Wishes
from crossfade.assess.gpus import Gpu
from crossfade.assess.inventory import SourceFacts
from crossfade.assess.load import Load
from crossfade.assess.sizing import DoesNotFit, Row, size
from crossfade.assess.source_memory import NO_SOURCE, GgufShape, SourceMemory, default_context, predicted_bytes
from crossfade.assess.storage import Storage, choose_storage
from crossfade.assess.tensors import WeightCensus, count_header, count_index
from crossfade.errors import GateFailed, Unreachable, WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.headers import fetch_headers
from crossfade.hub.published import Found, PassedOver, find_published
from crossfade.hub.repository import ResolvedRepository
from crossfade.plan.addresses import same_address
from crossfade.plan.model import PrometheusPlan
from crossfade.prometheus.gauges import gauge_by
from crossfade.prometheus.queries import busiest
from crossfade.rollout.names import route_name
from crossfade.rollout.routes import canonical
from crossfade.runtime.gpus import DCGM_FREE, DCGM_RESERVED, DCGM_USED, gpus_from_dcgm, gpus_of_this_machine
from crossfade.wiring import Bench
from tasks.artifacts import table

NOBODY = Found((), ())
NOT_ASKED = Found((), (PassedOver("all of them", "HF_HUB_OFFLINE is set, so nobody was asked for published quantizations"),))


@dataclass(frozen=True)
class Sized:
    """What sizing was asked and what it answered. `storage` is None where the plan's own scheme could only be taken as it is."""

    gpus: tuple[Gpu, ...]
    origin: str
    storage: Storage | None
    found: Found = NOBODY
    note: str = ""

    def markdown(self) -> str:
        """The table a person checks, and every published quantization that was looked at."""
        if self.storage is None:
            return f"## Sizing\n\n{self.note}\n"
        head = f"## Sizing\n\nWeights: {self.storage.why}. GPUs: {self.origin}.\n\n"
        return head + sizing_table(self.storage.sizing.rows) + self._published()

    def _published(self) -> str:
        assert self.storage is not None  # noqa: S101 - markdown() asked
        rows = [
            (each.offer.repo, each.offer.commit[:12], f"{each.offer.method}, {each.offer.bits} bits", each.why, "; ".join(each.offer.notes))
            for each in self.storage.considered
        ]
        rows += [(each.repo, "", "", each.why, "") for each in self.found.passed_over]
        if not rows:
            return ""
        return f"\n\n### Published quantizations\n\n{table(('repository', 'commit', 'stored', 'verdict', 'notes'), rows)}\n"


@dataclass(frozen=True)
class Asked:
    """What is to be served: the repository with its configuration, what the source says of the model, and the load to expect."""

    resolved: ResolvedRepository
    config: Mapping[str, object]
    source: SourceFacts
    load: Load | None


@dataclass(frozen=True)
class Seen:
    """Most requests that were under way at once at the router, and a sentence for people; 0 when none came, or nobody can tell."""

    at_once: float
    said: str


def seen_at_router(prometheus: PrometheusPlan, migration: str) -> Seen:
    """What went through the router for a migration's model within a week.

    Before a first migration only a router that was there already has seen any; a second attempt knows what the first one saw.
    """
    try:
        found = gauge_by(prometheus.url, busiest(route_name(migration)), (), timeout_s=prometheus.timeout)
    except Unreachable as error:
        return Seen(0.0, f"unknown, so the plan's load decides alone: {error}")
    if not (at_once := found.get((), 0.0)):
        return Seen(0.0, "none went through the router's route of this model within a week, so the plan's load decides alone")
    return Seen(at_once, f"at most {at_once:.1f}, as means over five minutes of a week at the router")


def size_model(bench: Bench, asked: Asked, access: Access) -> Sized:
    """How to store and serve the model on the GPUs there are, or on unknown ones.

    `quantize: auto` is decided here and nowhere else. Raises GateFailed with three ways out when nothing fits, WeightsInvalid when
    `auto` cannot be decided because the configuration says too little, and what the hub's and Prometheus' adapters raise.
    """
    gpus, origin = _gpus(bench)
    try:
        model = read_architecture(asked.config)
    except WeightsInvalid as error:
        if bench.model.quantize == "auto":
            raise
        return Sized(gpus, origin, None, note=f"not sized: {error}")
    question = Question(
        model=model,
        weights=_census(asked.resolved, model, access),
        gpus=gpus,
        load=asked.load,
        wishes=_wishes(bench),
        source=_source_memory(bench, model, gpus) if gpus else NO_SOURCE,
        source_context=asked.source.context,
    )
    sized = size(question)
    if isinstance(sized, DoesNotFit):
        raise _refusal(bench, sized, origin)
    if bench.model.quantize != "auto":
        return Sized(gpus, origin, Storage(sized.scheme, sized, f"the plan says quantize: {bench.model.quantize}"))
    found = NOBODY
    if sized.scheme != "none":
        organisations = (asked.resolved.repo.split("/")[0], *bench.model.trust)
        found = NOT_ASKED if access.offline else find_published(asked.resolved, asked.config, organisations, access)
    return Sized(gpus, origin, choose_storage(question, sized, found.offers), found)


def sizing_table(rows: tuple[Row, ...]) -> str:
    """Sizing's rows as Markdown."""
    return table(("what", "value", "because"), [(row.what, row.value, row.because) for row in rows])


def _refusal(bench: Bench, short: DoesNotFit, origin: str) -> GateFailed:
    ways = "; or ".join(f"{way.change} ({way.price})" for way in short.ways_out)
    refusal = GateFailed(f"{bench.migration}: {short.reason}. Cheapest first: {ways}.")
    rows = [(way.change, way.numbers, way.price) for way in short.ways_out]
    refusal.add_note(
        f"## Sizing\n\nGPUs: {origin}.\n\n{sizing_table(short.rows)}\n\n## Ways out\n\n{table(('change', 'gives', 'costs'), rows)}\n"
    )
    return refusal


def _wishes(bench: Bench) -> Wishes:
    wanted = bench.plan.target.vllm
    flags = {name.replace("-", "_"): value for name, value in wanted.flags.items()}
    chunk = flags.get("max_num_batched_tokens")
    return Wishes(
        scheme=bench.model.quantize,
        tensor_parallel=wanted.tensor_parallel_size,
        max_model_len=wanted.max_model_len,
        kv_cache_bytes=wanted.kv_cache,
        max_num_seqs=wanted.max_num_seqs,
        cache_dtype="fp8" if str(flags.get("kv_cache_dtype", "")).startswith("fp8") else "auto",
        chunk_tokens=chunk if isinstance(chunk, int) and chunk > 0 else "auto",
    )


def _census(resolved: ResolvedRepository, model: Architecture, access: Access) -> WeightCensus:
    """Exact by the headers of the files; from their sizes alone where a mirror does not give parts of files."""
    try:
        return count_header(fetch_headers(resolved, access))
    except WeightsInvalid:
        return count_index(sum(file.bytes for file in resolved.files if file.path.endswith(".safetensors")), model)


def _gpus(bench: Bench) -> tuple[tuple[Gpu, ...], str]:
    """The plan's, else this machine's where the target runs on it, else those DCGM tells Prometheus of one host; and who said so."""
    if planned := bench.plan.target.gpus:
        return tuple(Gpu(each.name, each.count, each.memory, each.used, each.capability) for each in planned), "named in the plan"
    if _is_here(bench.plan.target.address) and (found := gpus_of_this_machine()):
        return found, "asked from this machine's driver"
    try:
        return _gpus_in_prometheus(bench)
    except Unreachable as error:
        if bench.model.quantize == "auto":
            raise  # what is chosen depends on the answer
        return (), f"unknown: {error}"


def _gpus_in_prometheus(bench: Bench) -> tuple[tuple[Gpu, ...], str]:
    prometheus, labels = bench.plan.prometheus, ("gpu", "modelName", "Hostname")
    used, free, reserved = (
        gauge_by(prometheus.url, name, labels, timeout_s=prometheus.timeout) for name in (DCGM_USED, DCGM_FREE, DCGM_RESERVED)
    )
    hosts = sorted({host for _, _, host in free})
    if len(hosts) > 1:
        return (), f"unknown: DCGM tells of {', '.join(hosts)}, and which of them is meant must be said in target.gpus of the plan"
    seen = gpus_from_dcgm(*({(gpu, name): value for (gpu, name, _), value in each.items()} for each in (used, free, reserved)))
    return (seen, f"seen by DCGM on {hosts[0]}") if seen else ((), "none known: neither plan, driver nor DCGM names one")


def _is_here(address: str) -> bool:
    return same_address(address, f"127.0.0.1:{address.rpartition(':')[2]}")


def _source_memory(bench: Bench, model: Architecture, gpus: tuple[Gpu, ...]) -> SourceMemory:
    """What Ollama holds, or would take again, of the very GPUs; nothing when it runs on another machine."""
    host = urlsplit(bench.plan.source.url).hostname or ""
    if not _is_here(f"{host}:1") or not _is_here(bench.plan.target.address):
        return NO_SOURCE
    name = canonical(bench.model.ollama)
    loaded = bench.source.loaded()
    resident = sum(each.vram_bytes for each in loaded)
    if any(canonical(each.name) == name for each in loaded):
        return SourceMemory(resident, resident)
    entry = next((each for each in bench.source.inventory() if canonical(each.name) == name), None)
    about = bench.source.describe(bench.model.ollama)
    shape = GgufShape(entry.size_bytes if entry else 0, model.layers, model.heads, model.kv_heads, model.hidden)
    context = about.num_ctx or default_context(sum(gpu.count * gpu.total_bytes for gpu in gpus), about.context_length)
    return SourceMemory(resident + predicted_bytes(shape, context=context), resident)
