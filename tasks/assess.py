"""Is this worth doing, and possible as far as can be known before a download?"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from crossfade.assess.inventory import TargetFacts
from crossfade.assess.shape import shape_from_config
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
from tasks.stage import Report, stage


class Assessed(BaseModel):
    """What later stages build on: the commit is pinned here and nowhere else."""

    commit: str
    total_bytes: int
    verdict: Verdict


@stage("assess", milestone=Phase.ASSESSED, retries=4)
def assess(bench: Bench, state: MigrationState) -> Report:
    """What both sides say of themselves, the decision framework, and the hazards that can be seen from here."""
    resolved = resolve(bench.model.huggingface, bench.model.revision, hub_access(bench.plan))
    copies = 1 if bench.model.quantize == "none" else 2
    check_room(resolved, bench.weights, copies)
    source, target = bench.source.facts(bench.model.ollama), _target_facts(bench, resolved)
    verdict = judge_plan(source, target, bench.plan.workload)
    rows = [(f.gate, f.source, f.target, str(f.decision), f.reason) for f in verdict.findings]
    markdown = f"# Assessment: {verdict.decision}\n\n{verdict.reason}\n\n{table(('what', 'source', 'target', 'verdict', 'why'), rows)}\n"
    if verdict.decision is not Decision.PROMOTE:
        refusal = GateFailed(f"{bench.migration}: the assessment says {verdict.decision}: {verdict.reason}. {verdict.next_action}")
        refusal.add_note(markdown)
        raise refusal
    summary = f"{resolved.repo} at {resolved.commit[:12]}, {resolved.total_bytes:,} bytes; {verdict.reason}"
    return Report(summary, markdown, Assessed(commit=resolved.commit, total_bytes=resolved.total_bytes, verdict=verdict))


def _target_facts(bench: Bench, resolved: ResolvedRepository) -> TargetFacts:
    config = read_config(resolved, hub_access(bench.plan))
    text = config.get("text_config")  # multimodal repositories keep the language model's numbers one level down
    context = (text if isinstance(text, Mapping) else config).get("max_position_embeddings")
    return TargetFacts(
        repo=resolved.repo,
        commit=resolved.commit,
        weight_bytes=sum(file.bytes for file in resolved.files if file.path.endswith(".safetensors")),
        total_bytes=resolved.total_bytes,
        files=len(resolved.files),
        served_names=served_names(bench.model.ollama, bench.model.aliases),
        context=context if isinstance(context, int) else None,
        shape=shape_from_config(config),
    )
