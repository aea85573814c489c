"""Is this worth doing, and possible as far as can be known before a download?"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from crossfade.assess.gpus import devices
from crossfade.assess.inventory import Demand, MachineFacts, TargetFacts
from crossfade.assess.layout import Layout, expected_load, free_bytes, layout_of
from crossfade.assess.shape import shape_from_config
from crossfade.assess.sizing import gib
from crossfade.assess.tensors import Made
from crossfade.assess.verdict import assess as judge_plan
from crossfade.errors import GateFailed
from crossfade.hub.repository import ResolvedRepository, read_config, resolve
from crossfade.hub.room import check_room
from crossfade.judge.verdict import Decision, Verdict
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.vllm.command import served_names
from crossfade.wiring import Bench
from tasks.artifacts import table
from tasks.hub_token import hub_access
from tasks.sizing import Asked, Sized, seen_at_router, size_model
from tasks.stage import Report, stage


class Assessed(BaseModel):
    """What later stages build on: the commit is pinned here and nowhere else.

    `repo` is what is downloaded: the plan's, or the published quantization that `quantize: auto` chose. `scheme` is what is made of it;
    both are empty in outcomes of before they were decided here. `bits_published` is 0 unless a published quantization was chosen.
    `layout` is None where no GPU is known.
    """

    commit: str
    total_bytes: int
    verdict: Verdict
    repo: str = ""
    scheme: Made | None = None
    why: str = ""
    bits_published: int = 0
    layout: Layout | None = None


@stage("assess", milestone=Phase.ASSESSED, retries=4)
def assess(bench: Bench, state: MigrationState) -> Report:
    """What both sides say of themselves, the decision framework, and the hazards that can be seen from here."""
    access = hub_access(bench.plan)
    resolved = resolve(bench.model.huggingface, bench.model.revision, access, store=bench.weights)
    config, source, seen = (
        read_config(resolved, access),
        bench.source.facts(bench.model.ollama),
        seen_at_router(bench.plan.prometheus, bench.migration),
    )
    load = expected_load(bench.plan.workload.load, seen.at_once)
    sized = size_model(bench, Asked(resolved, config, source, load), access)
    chosen = _chosen(bench, resolved, sized)
    fetched = resolved if chosen.repo == resolved.repo else resolve(chosen.repo, chosen.commit, access)
    check_room(fetched, bench.weights, 1 if chosen.scheme == "none" else 2)
    _require_comparable(bench, chosen, resolved, sized)
    target = _target_facts(bench, fetched, config, sized)
    machine = MachineFacts(tuple(device.gpu.total_bytes for device in devices(sized.gpus)))
    demand = Demand(peak_concurrency=load.concurrency if load else seen.at_once or None)
    verdict = judge_plan(source, target, bench.plan.workload, machine=machine, demand=demand)
    rows = [(f.gate, f.source, f.target, str(f.decision), f.reason) for f in verdict.findings]
    findings = table(("what", "source", "target", "verdict", "why"), rows)
    markdown = f"# Assessment: {verdict.decision}\n\n{verdict.reason}\n\n{findings}\n\nRequests at once: {seen.said}.\n\n{sized.markdown()}"
    if verdict.decision is not Decision.PROMOTE:
        refusal = GateFailed(f"{bench.migration}: the assessment says {verdict.decision}: {verdict.reason}. {verdict.next_action}")
        refusal.add_note(markdown)
        raise refusal
    summary = f"{fetched.repo} at {fetched.commit[:12]}, {fetched.total_bytes:,} bytes; weights: {chosen.why}; {verdict.reason}"
    return Report(summary, markdown, chosen.model_copy(update={"verdict": verdict, "total_bytes": fetched.total_bytes}))


def _require_comparable(bench: Bench, chosen: Assessed, base: ResolvedRepository, sized: Sized) -> None:
    """Refuse before hours of quantizing what could not be compared afterwards, because the unquantized weights fit nowhere here."""
    if chosen.scheme in ("none", None) or bench.plan.drift.skip or not sized.gpus:
        return
    free = free_bytes(sized.gpus, chosen.layout)
    needed = sum(file.bytes for file in base.files if file.path.endswith(".safetensors"))
    if needed > free:
        raise GateFailed(
            f"{bench.migration}: {gib(needed)} of unquantized weights do not fit the {gib(free)} that are free on the GPUs to serve on, so "
            f"nobody could compare the {chosen.scheme} weights with what they are made from. Say so in drift: {{skip: REASON}} of the plan "
            "and let the parity suite show what quantizing cost; or name a published quantization as huggingface:."
        )


def _chosen(bench: Bench, resolved: ResolvedRepository, sized: Sized) -> Assessed:
    """The decision; its verdict is filled in when there is one."""
    pending = Verdict(decision=Decision.HOLD, reason="not judged yet", findings=(), next_action="")
    found = Assessed(commit=resolved.commit, total_bytes=resolved.total_bytes, verdict=pending, repo=resolved.repo)
    if (storage := sized.storage) is None:  # then the plan says the scheme itself
        wanted = bench.model.quantize
        return found.model_copy(update={"scheme": None if wanted == "auto" else wanted, "why": sized.note})
    decided: dict[str, object] = {"scheme": storage.scheme, "why": storage.why, "layout": layout_of(storage.sizing)}
    if storage.offer:
        decided |= {"repo": storage.offer.repo, "commit": storage.offer.commit, "bits_published": storage.offer.bits}
    return found.model_copy(update=decided)


def _target_facts(bench: Bench, resolved: ResolvedRepository, config: Mapping[str, object], sized: Sized) -> TargetFacts:
    """`config` is the base's own also where a quantization of it is fetched: it describes the network, which is the same."""
    text = config.get("text_config")  # multimodal repositories keep the language model's numbers one level down
    context = (text if isinstance(text, Mapping) else config).get("max_position_embeddings")
    return TargetFacts(
        repo=resolved.repo,
        commit=resolved.commit,
        weight_bytes=_weight_bytes(resolved, sized),
        total_bytes=resolved.total_bytes,
        files=len(resolved.files),
        served_names=served_names(bench.model.ollama, bench.model.aliases),
        context=context if isinstance(context, int) else None,
        shape=shape_from_config(config),
    )


def _weight_bytes(resolved: ResolvedRepository, sized: Sized) -> int:
    """As they will lie on the GPUs together, quantized or not."""
    if sized.storage:
        return sized.storage.sizing.weight_bytes * sized.storage.sizing.tensor_parallel_size
    return sum(file.bytes for file in resolved.files if file.path.endswith(".safetensors"))
