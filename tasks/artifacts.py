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
    """A verdict as a table: gate, source, target, finding."""
    rows = [(f.gate, f.source, f.target, str(f.decision), f.reason) for f in ruled.verdict.findings]
    head = f"**{ruled.verdict.decision}** at `{ruled.evidence.boundary}`: {ruled.verdict.reason}\n\nNext: {ruled.verdict.next_action}\n\n"
    return head + table(("gate", "source", "target", "verdict", "why"), rows)
