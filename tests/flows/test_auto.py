"""`quantize: auto` through the real stages: what sizing finds on GPUs the plan names, and what a hub offers."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_stage_failures import Artifact, Begin, artifact, at_phase, begin, refused

from crossfade import processes
from crossfade.assess.architecture import read_architecture
from crossfade.assess.fit import Question, Wishes
from crossfade.assess.gpus import Gpu
from crossfade.assess.sizing import Sizing, size
from crossfade.assess.tensors import count_header
from crossfade.home import CHECKOUT
from crossfade.lab.free_ports import choose_free
from crossfade.lab.hub_content import LabRepository
from crossfade.lab.hub_server import LabHub, running
from crossfade.lab.prometheus import prometheus_binary, start_prometheus
from crossfade.lab.stack import Lab
from crossfade.prometheus.queries import SPENT_MS
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import Attempt
from crossfade.weights import WeightFile, WeightsManifest, read_headers
from crossfade.wiring import open_bench

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_routes")]

MODEL = CHECKOUT / "deployments" / "lab-model"
MIB = 2**20

__all__ = ["artifact", "begin"]  # fixtures of the neighbour, used here too


def too_small_for_full_precision() -> int:
    """Memory of a GPU on which the lab model and its 64 MiB of cache fit in 8 bits and not in 16."""
    config = json.loads((MODEL / "config.json").read_text())
    named = WeightFile(path="model.safetensors", bytes=0, sha256="0" * 64)
    manifest = WeightsManifest(repo="a/b", commit="c", made_by="test", files=(named,))
    census = count_header(read_headers(MODEL, manifest))
    wishes = Wishes(max_model_len=512, kv_cache_bytes=64 * MIB, max_num_seqs=16)
    for memory in range(2600 * MIB, 3200 * MIB, MIB):
        gpu = Gpu("pretend", 1, memory, 0, 8.9)
        found = size(Question(read_architecture(config), census, (gpu,), wishes=wishes, source_context=512))
        if isinstance(found, Sizing) and found.scheme == "fp8":
            return memory
    raise AssertionError("no memory between the two sizes")


def on_a_gpu_of(memory: int) -> tuple[tuple[str, str], ...]:
    gpus = f"target:\n  gpus: [{{name: pretend, memory: {memory}B, capability: 8.9}}]"
    return ("quantize: w8a8", "quantize: auto"), ("target:", gpus)


@pytest.fixture
def publishing_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The lab model, and an 8-bit quantization of it by the same organisation."""
    small = tmp_path / "fp8"
    shutil.copytree(MODEL, small, ignore=shutil.ignore_patterns("eval.jsonl", "*.py", "*.md", "*.safetensors"))
    config = json.loads((MODEL / "config.json").read_text()) | {"quantization_config": {"quant_method": "fp8"}}
    (small / "config.json").write_text(json.dumps(config))
    (small / "README.md").write_text("---\nbase_model: crossfade/lab-model\nbase_model_relation: quantized\n---\n")
    header = json.dumps({"w": {"dtype": "U8", "shape": [2000000], "data_offsets": [0, 2000000]}}).encode()
    (small / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2000000))
    hub = LabHub([LabRepository("crossfade/lab-model", MODEL), LabRepository("crossfade/lab-model-FP8", small)])
    with running(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield


def assessed(attempt: Attempt) -> object:
    from tasks.assess import Assessed

    bench = open_bench(attempt.migration)
    return bench.desk.outcome(bench.state(), "assess", Assessed)


def test_auto_makes_nothing_where_no_gpu_is_known_and_says_so(begin: Begin, artifact: Artifact) -> None:
    from tasks.assess import assess

    migration = begin(("quantize: w8a8", "quantize: auto"))
    assess(migration)
    assert (assessed(migration).scheme, assessed(migration).layout) == ("none", None)
    assert "no GPU is known" in artifact(migration, "assess")
    assert "cache per token" in artifact(migration, "assess")
    assert "Requests at once: none went through the router" in artifact(migration, "assess")


def test_auto_makes_the_gentlest_scheme_that_fits_where_nobody_publishes_one(begin: Begin, artifact: Artifact) -> None:
    from tasks.assess import assess

    migration = begin(*on_a_gpu_of(too_small_for_full_precision()))
    assess(migration)
    assert assessed(migration).scheme == "fp8"
    assert "no published quantization was found; fp8 is made here" in artifact(migration, "assess")


def test_offline_a_commit_that_is_here_goes_through_assessment_and_download(
    begin: Begin, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.assess import assess
    from tasks.download import download

    store = ("baseline: 3s", f"baseline: 3s\nstore: {tmp_path / 'store'}")
    first = begin(store)
    assess(first)
    at_phase(first, Phase.OBSERVING)
    download(first)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    second = begin(("name: f", "name: g"), store, ("quantize: w8a8", f"quantize: auto\n    revision: {assessed(first).commit}"))
    assess(second)
    at_phase(second, Phase.OBSERVING)
    download(second)
    assert "all hashes right" in artifact(second, "download")


def test_sizing_counts_with_what_the_router_carried_where_that_is_more_than_was_planned(
    begin: Begin, artifact: Artifact, lab: Lab, tmp_path: Path
) -> None:
    """Nine requests at once for an hour, in the real samples of a Prometheus of the test's own."""
    from tasks.assess import assess

    [port] = choose_free(1)
    load = "workload: {load: {prompt_tokens: 10, output_tokens: 10, at_once: 2}}"
    gpus, mine = (
        on_a_gpu_of(80 * 1024 * MIB),
        (f'prometheus: {{url: "http://127.0.0.1:{lab.ports.prometheus}"', f'prometheus: {{url: "http://127.0.0.1:{port}"'),
    )
    migration = begin(*gpus, mine, ("baseline: 3s", f"baseline: 3s\n{load}"))
    series = f'{SPENT_MS}{{route="{route_name(migration.migration)}",intended="source",engine="source"}}'
    began_s = int(time.time()) - 3600
    lines = [f"{series} {9 * 15_000 * at} {began_s + 15 * at}" for at in range(240)]
    (tmp_path / "samples").write_text("\n".join([f"# TYPE {SPENT_MS} unknown", *lines, "# EOF\n"]))
    binary = prometheus_binary(CHECKOUT / ".lab", print)
    blocks = [binary.parent / "promtool", "tsdb", "create-blocks-from", "openmetrics", tmp_path / "samples"]
    subprocess.run([*blocks, tmp_path / "prometheus-data" / "samples"], check=True, capture_output=True)
    start_prometheus(binary, lab=tmp_path, port=port, targets=[], records=tmp_path / "processes", logs=tmp_path)
    try:
        assess(migration)
    finally:
        processes.stop_all(tmp_path / "processes", deadline_s=5)
    said = artifact(migration, "assess")
    assert "Requests at once: at most 9.0" in said
    assert "| requests at once | 9.0 | 9 requests at once, " in said


@pytest.mark.usefixtures("publishing_hub")
def test_auto_takes_a_published_quantization_pins_it_and_says_what_and_why(begin: Begin, artifact: Artifact, tmp_path: Path) -> None:
    from tasks.assess import assess
    from tasks.download import download
    from tasks.quantize import quantize

    store = ("baseline: 3s", f"baseline: 3s\nstore: {tmp_path / 'store'}")
    migration = begin(store, *on_a_gpu_of(too_small_for_full_precision()))
    assess(migration)
    assert (assessed(migration).repo, assessed(migration).scheme) == ("crossfade/lab-model-FP8", "none")
    assert "publishes the same model in 8 bits" in artifact(migration, "assess")
    at_phase(migration, Phase.OBSERVING)
    download(migration)
    quantize(migration)
    assert "crossfade/lab-model-FP8" in artifact(migration, "quantize")
    assert "not compared here with full precision" in artifact(migration, "quantize")


def test_assess_stops_at_a_gpu_that_is_too_small_and_offers_ways_out(begin: Begin, artifact: Artifact) -> None:
    from tasks.assess import assess

    migration = begin(*on_a_gpu_of(2000 * MIB))
    assert "Cheapest first" in refused(assess, migration)
    assert "Ways out" in artifact(migration, "assess")


def test_quantize_stops_at_weights_that_drifted_further_than_the_plan_allows(
    lab: Lab, begin: Begin, artifact: Artifact, artifacts: Callable[[str], str]
) -> None:
    from tasks.assess import assess
    from tasks.download import download
    from tasks.quantize import quantize

    migration = begin(("parity:", "drift: {logprob_at_most: 0.0000001}\nparity:"))
    assess(migration)
    at_phase(migration, Phase.OBSERVING)
    download(migration)
    assert "mean log-probability drift" in refused(quantize, migration)
    assert "the plan allows 1e-07" in artifact(migration, "quantize")
    notes = open_bench(migration.migration).desk.journal.entries(migration.migration, kind="note", subject="drift")
    assert '"mean_drift"' in notes[0].body
