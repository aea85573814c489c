"""The story of a migration as Markdown, told from the journal alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel

from crossfade.plan.units import format_share
from crossfade.ports import Entry
from crossfade.ramp.logbook import Because, Ruling, ShareMove
from crossfade.rollout.state import MigrationState


class Breached(BaseModel):
    """The part of a breach's entry that is told."""

    reason: str
    numbers: dict[str, float] = {}


KNOWN_LIMITS = (
    "`/api/*` (Ollama's native API) stayed on the source throughout: the translating sidecar is not built yet. "
    "Only `/v1/*` requests were shared."
)


def tell(state: MigrationState, entries: Sequence[Entry], note: str) -> str:
    """The report: where the migration is, each decision in order, and what to know about its limits."""
    current = [entry for entry in entries if entry.attempt == state.attempt]
    lines = [
        f"# {state.name}: {state.phase}",
        "",
        *([note, ""] if note else []),
        f"Attempt {state.attempt}; {format_share(state.share_bp)} on the target; {state.because}",
        "",
        "| time (UTC) | kind | what | why |",
        "|---|---|---|---|",
        *(f"| {_clock(entry.at_s)} | {entry.kind} | {entry.subject} | {_why(entry)} |" for entry in current if _tells(entry)),
        "",
        f"Known limit: {KNOWN_LIMITS}",
        "",
    ]
    return "\n".join(lines)


def _tells(entry: Entry) -> bool:
    """The plan and the stages' own results stay in the journal; what they came to stands in the phase that follows."""
    return entry.kind != "plan" and (entry.kind != "outcome" or entry.subject in ("share", "rollback", "reconcile", "soak"))


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")


def _why(entry: Entry) -> str:
    match entry.kind:
        case "decision":
            verdict = Ruling.model_validate_json(entry.body).verdict
            text = f"**{verdict.decision}**: {verdict.reason}"
        case "intent" | "outcome" if entry.subject in ("share", "rollback", "reconcile") and '"route"' in entry.body:
            move = ShareMove.model_validate_json(entry.body)
            text = f"{format_share(move.route.share_bp)} in generation {move.generation}. {move.why}"
        case "breach":
            text = Breached.model_validate_json(entry.body).reason
        case "phase" | "outcome" | "note" if entry.body.startswith('{"why"'):
            text = Because.model_validate_json(entry.body).why
        case _:
            text = entry.body if len(entry.body) < 300 else entry.body[:297] + "..."
    return text.replace("|", "\\|").replace("\n", " ")
