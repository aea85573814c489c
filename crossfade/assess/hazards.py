"""Known hazards of this move that the inventory alone can show; numbers are those of the hazard list in the documentation.

`HAZARDS` is the table: one row a hazard, with a function that looks for it. Hazards that need recorded traffic, a running
target or a GPU are looked for by later stages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from crossfade.assess.families import family_of
from crossfade.assess.inventory import SourceFacts, TargetFacts
from crossfade.assess.shape import compared, mismatches
from crossfade.rollout.routes import canonical

Severity = Literal["stop", "warn", "note"]
"""`stop`: users would be harmed silently, or the move is impossible. `warn`: some requests would fail or change. `note`: good to know."""


@dataclass(frozen=True)
class Finding:
    """A hazard that was found. `resolution` says what to do about it."""

    hazard: str
    severity: Severity
    summary: str
    resolution: str


@dataclass(frozen=True)
class Hazard:
    """A row of the table."""

    number: str
    title: str
    look: Callable[[SourceFacts, TargetFacts], Finding | None]


def find_hazards(source: SourceFacts, target: TargetFacts) -> tuple[Finding, ...]:
    """Every hazard of the table that the inventory shows, worst first, then in the table's order."""
    found = [finding for hazard in HAZARDS if (finding := hazard.look(source, target))]
    order: tuple[Severity, ...] = ("stop", "warn", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _other_weights(source: SourceFacts, target: TargetFacts) -> Finding | None:
    wrong = mismatches(source.shape, target.shape)
    if wrong:
        values = "; ".join(f"{one.what} is {one.source} on the source and {one.target} in {target.repo}" for one in wrong)
        return Finding(
            "H18", "stop", f"these are not the same weights: {values}", "name the repository of the very model the source serves"
        )
    known = compared(source.shape, target.shape)
    if not known:
        return Finding(
            "H18",
            "stop",
            f"nothing shows that {target.repo} holds the weights of {source.model}: no value of the network's shape is known on both sides",
            "check that the source answers /api/show with model_info and that the repository has a config.json",
        )
    if len(known) < 3:
        return Finding(
            "H18",
            "warn",
            f"only {', '.join(known)} could be compared between {source.model} and {target.repo}",
            "check by hand that both are the same model; parity will show plausible but different answers late",
        )
    return None


def _embeddings(source: SourceFacts, _: TargetFacts) -> Finding | None:
    if "embedding" not in source.capabilities:
        return None
    return Finding(
        "H25",
        "stop" if "completion" not in source.capabilities else "warn",
        f"{source.model} makes embeddings; splitting one index between two engines makes its search silently worse",
        "leave embeddings on the source, or move the whole index at once; they are excluded from the ramp",
    )


def _shorter_context(source: SourceFacts, target: TargetFacts) -> Finding | None:
    if source.context is None or target.context is None or target.context >= source.context:
        return None
    return Finding(
        "H4",
        "warn",
        f"the source keeps {source.context} tokens of context, {target.repo} is made for {target.context}: longer chats get status 400",
        "check how long real prompts are before the ramp",
    )


def _tools(source: SourceFacts, target: TargetFacts) -> Finding | None:
    if "tools" not in source.capabilities:
        return None
    family = family_of(target.shape.architecture or "", target.repo)
    parser = family.tool_parser if family else ""
    unknown = "" if parser else f"; no parser is known for {family.name if family else target.shape.architecture or 'this family'}"
    return Finding(
        "H5",
        "warn",
        f"{source.model} can call tools, which vLLM refuses with status 400 unless it is started for it{unknown}",
        f"vLLM is started with --tool-call-parser {parser}; target.vllm.tool_parser overrules it"
        if parser
        else "if clients send tools, name vLLM's parser in target.vllm.tool_parser",
    )


def _reasoning(source: SourceFacts, target: TargetFacts) -> Finding | None:
    if "thinking" not in source.capabilities:
        return None
    family = family_of(target.shape.architecture or "", target.repo)
    parser = family.reasoning_parser if family else ""
    return Finding(
        "H7",
        "warn",
        f"{source.model} thinks before it answers; without a reasoning parser the thoughts land in the answer",
        f"vLLM is started with --reasoning-parser {parser}; target.vllm.reasoning_parser overrules it"
        if parser
        else "name vLLM's parser in target.vllm.reasoning_parser",
    )


def _several_models(source: SourceFacts, _: TargetFacts) -> Finding | None:
    others = sorted(name for name in source.installed if canonical(name) != canonical(source.model))
    if not others:
        return None
    listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    return Finding(
        "H17",
        "warn",
        f"one vLLM serves one base model, the source also serves {listed}",
        "those names stay on the source; it may only be switched off when they have moved too",
    )


def _names(source: SourceFacts, target: TargetFacts) -> Finding | None:
    served = {name.lower() for name in target.served_names}
    missing = sorted({source.model.lower(), canonical(source.model)} - served)
    if missing:
        return Finding(
            "H16",
            "stop",
            f"clients may write {', '.join(missing)}, which the target does not serve: vLLM answers 404 to a name it was not given",
            "serve the model under every name clients use, with and without :latest",
        )
    return Finding("H16", "note", f"the target serves the names {', '.join(target.served_names)}", "list further names under aliases:")


def _templated_completions(source: SourceFacts, _: TargetFacts) -> Finding | None:
    if "completion" not in source.capabilities:
        return None
    return Finding(
        "H24",
        "note",
        "the source puts /api/generate and /v1/completions through the chat template; vLLM's /v1/completions is raw and 16 tokens long",
        "move clients to /v1/chat/completions; /api/* stays on the source",
    )


HAZARDS: tuple[Hazard, ...] = (
    Hazard("H4", "shorter context", _shorter_context),
    Hazard("H5", "tools need flags", _tools),
    Hazard("H7", "thoughts in the answer", _reasoning),
    Hazard("H16", "names vLLM does not know", _names),
    Hazard("H17", "one vLLM, one base model", _several_models),
    Hazard("H18", "other weights", _other_weights),
    Hazard("H24", "completions without a template", _templated_completions),
    Hazard("H25", "embeddings", _embeddings),
)
