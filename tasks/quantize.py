"""Have the weights quantized on the gpu pool, and check what came back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from crossfade.errors import QuantizeFailed
from crossfade.quantize.request import QuantizeRequest, output_folder
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.weights import WeightsManifest, verify
from crossfade.wiring import Bench
from tasks.artifacts import table
from tasks.download import Downloaded
from tasks.gpu import hand_over
from tasks.stage import Report, stage


class Quantized(BaseModel):
    """The weights that will be served."""

    folder: str
    manifest: WeightsManifest


@stage("quantize", milestone=Phase.QUANTIZED, gates="quantize", retries=2, timeout=timedelta(days=1))
def quantize(bench: Bench, state: MigrationState) -> Report:
    """Nothing for `quantize: none`; else one run on the gpu pool, whose result is found by path and believed by checksum."""
    downloaded = bench.desk.outcome(state, "download", Downloaded)
    before = downloaded.manifest.total_bytes
    folder, how = Path(downloaded.folder), "served as they came"
    if bench.model.quantize != "none":
        prompts = str(bench.model.calibration) if bench.model.calibration else None
        request = QuantizeRequest(weights=str(folder), out_root=str(bench.weights), scheme=bench.model.quantize, calibration=prompts)
        how = hand_over(state, "quantize", {"request": request.model_dump_json()}, QuantizeFailed)
        folder = output_folder(request)
    manifest = verify(folder)
    rows = [("scheme", manifest.scheme), ("bytes before", f"{before:,}"), ("bytes after", f"{manifest.total_bytes:,}"), ("folder", folder)]
    summary = f"{manifest.scheme}: {before:,} -> {manifest.total_bytes:,} bytes; {how}"
    return Report(summary, f"# Weights to serve\n\n{table(('what', 'value'), rows)}\n", Quantized(folder=str(folder), manifest=manifest))
