"""The decision framework: should this model leave Ollama at all.

vLLM pays where many talk to one model at once: continuous batching, many LoRA adapters over one base, weights spread over
several GPUs, and metrics and limits that an agreement with users needs. One person at one machine is better off
with Ollama, and `stay` is a good answer. What was not measured is asked for and not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossfade.assess.inventory import Demand, MachineFacts, SourceFacts, TargetFacts
from crossfade.plan.model import Workload

Outcome = Literal["migrate", "stay", "ask"]


@dataclass(frozen=True)
class Choice:
    """The outcome and the reasons that led to it; every reason is a sentence with its numbers."""

    outcome: Outcome
    reasons: tuple[str, ...]


def choose(source: SourceFacts, target: TargetFacts, workload: Workload, machine: MachineFacts, demand: Demand) -> Choice:
    """Whether to move this model.

    An obstacle decides alone: `stay`. Otherwise one reason to move is enough, and with none the missing measurement decides
    between `ask` and `stay`.
    """
    if obstacle := _too_big_for_the_machine(target, machine):
        return Choice("stay", (obstacle,))
    if reasons := _reasons_to_move(source, target, workload, machine, demand):
        return Choice("migrate", reasons)
    if demand.peak_concurrency is None:
        return Choice("ask", ("no external users and no SLA, and nobody measured how many requests come at once",))
    return Choice(
        "stay",
        (
            f"no external users, no SLA, {demand.adapters} adapters, and at most {demand.peak_concurrency:g} requests at once, "
            f"which the source answers with its {source.parallel} slots",
        ),
    )


def _reasons_to_move(
    source: SourceFacts, target: TargetFacts, workload: Workload, machine: MachineFacts, demand: Demand
) -> tuple[str, ...]:
    reasons = []
    if workload.external_users:
        reasons.append("users outside the team depend on it")
    if workload.sla:
        reasons.append("an SLA needs engine metrics and predictable latency under load, and Ollama has no metrics (H32)")
    if demand.peak_concurrency is not None and demand.peak_concurrency > source.parallel:
        reasons.append(f"up to {demand.peak_concurrency:g} requests at once wait for {source.parallel} slots of the source")
    if demand.adapters > 1:
        reasons.append(f"{demand.adapters} adapters share one base, which vLLM serves together and Ollama swaps")
    if machine.gpu_bytes and target.weight_bytes > max(machine.gpu_bytes):
        reasons.append(
            f"{gib(target.weight_bytes)} of weights do not fit one GPU of {gib(max(machine.gpu_bytes))}; "
            f"vLLM computes on all {len(machine.gpu_bytes)} at once"
        )
    return tuple(reasons)


def _too_big_for_the_machine(target: TargetFacts, machine: MachineFacts) -> str:
    total = sum(machine.gpu_bytes)
    if not total or target.weight_bytes <= total:
        return ""
    return (
        f"{gib(target.weight_bytes)} of weights do not fit the {gib(total)} of all {len(machine.gpu_bytes)} GPUs together; "
        "vLLM keeps all weights on GPUs, Ollama can leave some in main memory"
    )


def gib(size_bytes: int) -> str:
    """`17179869184` as `16.0 GiB`."""
    return f"{size_bytes / 2**30:.1f} GiB"
