"""What a person sees in the Prefect UI of a stage: one Markdown artifact a stage and migration, versions kept by Prefect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from crossfade.ramp.gatekeeper import Ruled
from crossfade.rollout.names import route_name


def artifact_key(migration: str, stage: str) -> str:
    """Prefect's artifact keys allow lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{route_name(migration)}-{stage}".lower()).strip("-")


def publish(migration: str, stage: str, markdown: str, description: str) -> None:
    """Store the artifact; `description` is its line in lists."""
    publish_as(artifact_key(migration, stage), markdown, description)


def publish_as(key: str, markdown: str, description: str) -> None:
    """Store an artifact that belongs to no single migration."""
    try:
        create_markdown_artifact(key=key, markdown=markdown, description=description[:500])
    except Exception as error:  # the decision stands in the journal; a server that cannot take a page must not end a ramp
        get_run_logger().warning("the artifact %s was not stored: %s", key, error)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells may hold anything without a line break."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def ruling(ruled: Ruled) -> str:
    """A verdict as a table: what each gate saw of both engines, the target's confidence sequence, and the evidence either way.

    Evidence are e-values: for the target 1/beta is enough to go on, against it 1/alpha over all gates together rolls back.
    """
    verdict = ruled.verdict
    rows = [
        (f.gate, f.source, f.target, f.interval, _evidence(f.evidence_for), _evidence(f.evidence_against), str(f.decision), f.reason)
        for f in verdict.findings
    ]
    head = f"**{verdict.decision}** at `{ruled.evidence.boundary}`: {verdict.reason}\n\nNext: {verdict.next_action}\n\n"
    return head + table(_RULING, rows)


_RULING = ("gate", "source", "target", "95% confidence sequence", "evidence for", "evidence against", "verdict", "why")


def _evidence(value: float | None) -> str:
    """Three digits; nothing where nothing is counted."""
    return "" if value is None else f"{value:.3g}"
