"""The real llm-compressor, and what a real vLLM makes of its weights."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from crossfade.judge.verdict import Decision
from crossfade.parity.drift import judge_drift
from crossfade.plan.model import DriftPlan
from crossfade.quantize.drift import DriftRequest, drift
from crossfade.quantize.request import QuantizeRequest, output_folder
from crossfade.quantize.run import quantize
from crossfade.weights import hash_files, seal, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def out_root(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def request_of(lab_weights, out_root):
    return lambda scheme, **more: QuantizeRequest(weights=str(lab_weights), out_root=str(out_root), scheme=scheme, **more)


@pytest.fixture
def make(tool, tmp_path):
    return lambda request: quantize(request, tool=tool, logs=tmp_path / "logs", deadline_s=300, on_progress=print)


@pytest.fixture
def compared(tool, suite, tmp_path, lab_weights):
    """How far the weights are from the unquantized ones, through the real vLLM."""

    def measure(folder):
        asked = DriftRequest(base=str(lab_weights), quantized=str(folder), suite=str(suite), prompts=24, dtype="bfloat16")
        return drift(asked, tool=tool, logs=tmp_path / "logs", deadline_s=300, on_progress=print)

    return measure


def test_w8a8_weights_are_half_the_size_and_say_the_same(request_of, make, compared, lab_weights):
    folder = make(request_of("w8a8"))
    manifest = verify(folder)
    assert manifest.made_by == "llmcompressor 0.14.0.1"
    assert manifest.total_bytes < 0.6 * verify(lab_weights).total_bytes
    report = compared(folder)
    assert judge_drift(report, DriftPlan()).decision is Decision.PROMOTE, report
    assert report.tokens > 100 and 0 < report.mean_drift < 0.02


def test_weights_that_a_healthy_engine_serves_and_that_are_broken_all_the_same_are_found(request_of, make, compared, out_root):
    made = make(request_of("w8a8"))
    broken = Path(shutil.copytree(made, out_root / "broken"))
    manifest, size = verify(made), (made / "model.safetensors").stat().st_size
    with (broken / "model.safetensors").open("r+b") as weights:
        weights.seek(size * 3 // 4)
        weights.write(b"\x55" * (size // 8))
    names = [file.path for file in manifest.files]
    seal(broken, manifest.model_copy(update={"files": hash_files(broken, names)}))
    report = compared(broken)
    assert judge_drift(report, DriftPlan()).decision is Decision.ROLL_BACK, report


def test_autoawq_still_runs_and_vllm_serves_what_it_makes(request_of, make, compared, tool, suite):
    tool("autoawq")  # skips and says how to build it
    folder = make(request_of("awq", tool="autoawq", calibration=str(suite), samples=8, max_length=64))
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == "awq"
    assert verify(folder).made_by == "autoawq 0.2.9"
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("vLLM's CPU build has 4-bit kernels for AVX-512 only: what autoawq made was not served")
    assert judge_drift(compared(folder), DriftPlan()).decision is Decision.PROMOTE


def test_killed_in_the_middle_the_real_tool_dies_too_and_the_next_run_makes_whole_fp8_weights(
    request_of, make, tool, tmp_path, lab_weights
):
    asked = request_of("fp8")
    victim = textwrap.dedent(f"""
        from pathlib import Path
        from crossfade.quantize.request import QuantizeRequest
        from crossfade.quantize.run import quantize
        request = QuantizeRequest.model_validate_json({asked.model_dump_json()!r})
        say = lambda line: print(line, flush=True)
        python = Path({str(tool("llmcompressor"))!r})
        quantize(request, tool=lambda _: python, logs=Path({str(tmp_path)!r}), deadline_s=300, on_progress=say)
    """)
    process = subprocess.Popen([sys.executable, "-c", victim], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("loading llm-compressor" in line for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.wait()
    final = output_folder(asked)
    assert final.with_name(f"{final.name}.partial").is_dir()
    assert not final.exists()
    assert make(asked) == final
    assert not final.with_name(f"{final.name}.partial").exists()
    began = time.monotonic()
    assert make(asked) == final
    assert time.monotonic() - began < 2
    assert verify(final).scheme == "fp8"
    assert verify(final).total_bytes < 0.6 * verify(lab_weights).total_bytes


def test_calibrated_four_bit_weights_come_from_the_users_own_prompts(request_of, make, suite):
    folder = make(request_of("gptq", calibration=str(suite), samples=32, max_length=128))
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["config_groups"]["group_0"]["weights"]["num_bits"] == 4
    assert verify(folder).scheme == "gptq"
