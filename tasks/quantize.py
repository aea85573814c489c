"""Have the weights quantized on the gpu pool, and believe what came back by checksum and by what it answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from crossfade.assess.layout import filled_in
from crossfade.errors import GateFailed, QuantizeFailed
from crossfade.judge.verdict import Decision, Verdict
from crossfade.parity.drift import DriftReport, judge_drift
from crossfade.quantize.drift import DriftRequest, known_report
from crossfade.quantize.request import QuantizeRequest, output_folder
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.weights import WeightsManifest, verify
from crossfade.wiring import Bench
from tasks.artifacts import table
from tasks.assess import Assessed
from tasks.download import Downloaded
from tasks.gpu import hand_over
from tasks.stage import Report, stage


class Drift(BaseModel):
    """The comparison with the unquantized weights and what was made of it."""

    report: DriftReport
    verdict: Verdict


class Quantized(BaseModel):
    """The weights that will be served. `drift` is None where nothing was compared, and `not_compared` says why."""

    folder: str
    manifest: WeightsManifest
    drift: Drift | None = None
    not_compared: str = ""


@stage("quantize", milestone=Phase.QUANTIZED, gates="quantize", retries=2, timeout=timedelta(days=1))
def quantize(bench: Bench, state: MigrationState) -> Report:
    """Nothing for scheme none; else one run on the gpu pool, whose result is found by path and believed by checksum and comparison."""
    assessed = bench.desk.outcome(state, "assess", Assessed)
    downloaded = bench.desk.outcome(state, "download", Downloaded)
    scheme = assessed.scheme or bench.model.quantize  # of before the assessment decided it: the plan's own
    if scheme == "none":
        return _as_they_came(downloaded, assessed)
    before = downloaded.manifest.total_bytes
    request = QuantizeRequest(
        weights=downloaded.folder,
        out_root=str(bench.weights),
        scheme=scheme,
        tool=bench.model.quantizer,
        calibration=str(bench.model.calibration) if bench.model.calibration else None,
        devices=_devices(bench, assessed),
    )
    comparison = None if bench.plan.drift.skip else _comparison(bench, assessed, downloaded.folder)
    parameters = {"request": request.model_dump_json(), "drift": comparison.model_dump_json() if comparison else ""}
    how = hand_over(state, "quantize", parameters, QuantizeFailed)
    folder = output_folder(request)
    manifest = verify(folder)
    rows = [
        ("scheme", f"{manifest.scheme}, {assessed.why}"),
        ("made by", f"{manifest.made_by}. {request.backend.remark}".strip()),
        ("calibration", request.prompts()[1]),
        ("bytes before", f"{before:,}"),
        ("bytes after", f"{manifest.total_bytes:,}"),
        ("folder", folder),
    ]
    markdown = f"# Weights to serve\n\n{table(('what', 'value'), rows)}\n\n"
    summary = f"{manifest.scheme}: {before:,} -> {manifest.total_bytes:,} bytes; {how}"
    made = Quantized(folder=str(folder), manifest=manifest, not_compared=bench.plan.drift.skip)
    if comparison is None:
        why = f"not compared with the unquantized weights, because the plan says: {bench.plan.drift.skip}"
        return Report(f"{summary}; {why}", f"{markdown}{why}\n", made)
    drift = _judged(bench, state, comparison.model_copy(update={"quantized": str(folder)}), markdown)
    told = f"{summary}; {drift.verdict.reason}"
    return Report(told, markdown + _drift_markdown(drift), made.model_copy(update={"drift": drift}))


def _as_they_came(downloaded: Downloaded, assessed: Assessed) -> Report:
    """Full precision, or somebody's published quantization, whose unquantized weights are not here to be compared with."""
    folder, manifest = Path(downloaded.folder), verify(Path(downloaded.folder))
    rows = [("weights", f"{manifest.repo} at {manifest.commit}"), ("why", assessed.why), ("bytes", f"{manifest.total_bytes:,}")]
    published = assessed.bits_published
    why = f"published in {published} bits by {manifest.repo.split('/')[0]}; not compared here with full precision" if published else ""
    if why:
        rows.append(("drift", f"{why}: the parity suite has to show it"))
    markdown = f"# Weights to serve\n\n{table(('what', 'value'), [*rows, ('folder', folder)])}\n"
    summary = f"{manifest.total_bytes:,} bytes, served as they came" + (f"; {why}" if why else "")
    return Report(summary, markdown, Quantized(folder=str(folder), manifest=manifest, not_compared=why))


def _devices(bench: Bench, assessed: Assessed) -> tuple[int, ...]:
    """The GPUs that will serve, so that the source keeps its own while weights are made and compared."""
    devices = filled_in(bench.plan, assessed.layout).target.vllm.devices
    return () if devices == "auto" else devices


def _comparison(bench: Bench, assessed: Assessed, base: str) -> DriftRequest:
    """What the gpu pool is asked to compare; it fills in the folder it made."""
    bounds, vllm = bench.plan.drift, filled_in(bench.plan, assessed.layout).target.vllm
    suite = bounds.suite or bench.plan.parity.suite
    return DriftRequest(
        base=base,
        quantized="",
        suite=str(suite) if suite else None,
        prompts=bounds.prompts,
        max_tokens=bounds.max_tokens,
        environment=bench.plan.target.runtime.environment,
        dtype=vllm.dtype,
        devices=_devices(bench, assessed),
        tensor_parallel_size=1 if vllm.tensor_parallel_size == "auto" else vllm.tensor_parallel_size,
        gpu_memory_utilization=None if vllm.gpu_memory_utilization == "auto" else vllm.gpu_memory_utilization,
        kv_cache_bytes=None if vllm.kv_cache == "auto" else vllm.kv_cache,
    )


def _judged(bench: Bench, state: MigrationState, request: DriftRequest, head: str) -> Drift:
    """The comparison the pool left in the store, judged here and written down whatever it says; raises GateFailed unless it promotes."""
    report = known_report(request)
    if report is None:
        raise QuantizeFailed(f"the gpu pool left no comparison beside {request.quantized}. Do its workers see the same store?")
    drift = Drift(report=report, verdict=judge_drift(report, bench.plan.drift))
    bench.desk.write(state, "note", "drift", drift)
    if drift.verdict.decision is not Decision.PROMOTE:
        refusal = GateFailed(f"{bench.migration}: these weights are not served: {drift.verdict.reason}. {drift.verdict.next_action}")
        refusal.add_note(head + _drift_markdown(drift))
        raise refusal
    return drift


def _drift_markdown(drift: Drift) -> str:
    report, verdict = drift.report, drift.verdict
    rows = [
        ("mean log-probability drift", f"{report.mean_drift:.5f}", f"largest {report.max_drift:.3f}, over {report.tokens} tokens"),
        ("greedy agreement", report.agreement, "tokens the quantized model would have chosen too"),
        ("the unquantized model with itself", report.noise, "noise of the engine"),
        ("identical answers", report.identical, f"{report.prompts} prompts of {report.suite}, through {report.engine}"),
    ]
    examples = f"\n\n{table(('prompt', 'unquantized', 'quantized'), report.examples)}" if report.examples else ""
    measured = table(("what", "value", "of"), rows)
    return f"## Compared with the unquantized weights: {verdict.decision}\n\n{verdict.reason}\n\n{measured}{examples}\n"
