"""Bring the weights here, at the commit the assessment pinned."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel

from crossfade.hub.download import fetch
from crossfade.hub.transfer import Progress as Transferred
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.weights import WeightsManifest, folder_for
from crossfade.wiring import Bench
from tasks.artifacts import table
from tasks.assess import Assessed
from tasks.hub_token import hub_access
from tasks.progress import Progress
from tasks.stage import Report, stage


class Downloaded(BaseModel):
    """Where the weights lie and what they are."""

    folder: str
    manifest: WeightsManifest


@stage("download", milestone=Phase.DOWNLOADED, gates="download", retries=8, retry_delay_s=5, timeout=timedelta(days=1))
def download(bench: Bench, state: MigrationState) -> Report:
    """Safetensors, tokenizer and configuration, each checked by size and hash. What is here already is not fetched again."""
    assessed = bench.desk.outcome(state, "assess", Assessed)
    progress = Progress(bench.migration, "download", bench.desk.clock)

    def show(now: Transferred) -> None:
        progress.at(now.bytes_done, now.bytes_total, in_words(now))

    repo, access = assessed.repo or bench.model.huggingface, hub_access(bench.plan)
    manifest = fetch(repo, assessed.commit, bench.weights, show, copies=1, access=access)
    folder = folder_for(bench.weights, manifest.repo, manifest.commit)
    rows = [(file.path, f"{file.bytes:,}", file.sha256[:16]) for file in manifest.files]
    summary = f"{len(manifest.files)} files, {manifest.total_bytes:,} bytes of {manifest.repo} at {manifest.commit[:12]}, all hashes right"
    markdown = f"# Weights\n\n{summary}\n\n{table(('file', 'bytes', 'sha256'), rows)}\n"
    return Report(summary, markdown, Downloaded(folder=str(folder), manifest=manifest))


def in_words(now: Transferred) -> str:
    """What is here of what is wanted, how fast it comes, and how long it takes still."""
    if now.waits_for:
        return f"waiting for {now.waits_for}"
    done = f"{now.bytes_done:,} of {now.bytes_total:,} bytes"
    if not now.eta_s:
        return done
    left = f"{now.eta_s / 3600:.1f} h" if now.eta_s >= 3600 else f"{now.eta_s / 60:.0f} min" if now.eta_s >= 100 else f"{now.eta_s:.0f} s"
    return f"{done} at {now.bytes_per_s / 1e6:.1f} MB/s, {left} left"
