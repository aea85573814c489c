"""What the drift check promises about its measurement, with small real programs in vLLM's place."""

import shutil
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tool_doubles import fake_python

from crossfade.errors import PermanentError, QuantizeFailed, ToolMissing, WeightsInvalid
from crossfade.quantize.drift import DriftRequest, drift, known_report, report_file

ANSWER = """
    print("runs", file=open(job["base"] + "/../drift-runs", "a"))
    given, n = json.load(open(job["out"])) if os.path.exists(job["out"]) else {}, len(job["prompts"])
    opinion = {"logprobs": [-0.1, -0.2], "first": [True, True]}
    texts, opinions = [{"text": "10"}] * n, [opinion] * n
    found = {"base": {"answers": texts, "base": opinions}, "quantized": {"quantized": opinions, "own": texts}}
    for step in job["steps"]:
        given |= found[step]
    json.dump(given, open(job["out"], "w"))
    print(json.dumps({"event": "result", "text": "compared"}), flush=True)
"""


@pytest.fixture
def asked(lab_weights, tmp_path, suite):
    quantized = shutil.copytree(lab_weights, tmp_path / "store" / "quantized")
    return DriftRequest(base=str(lab_weights), quantized=str(quantized), suite=str(suite), prompts=12)


@pytest.fixture
def run(asked, tmp_path):
    def go(body=ANSWER, *, request=asked, deadline_s=60, say=print):
        program = fake_python(tmp_path, body)
        return drift(request, tool=lambda _: program, logs=tmp_path / "logs", deadline_s=deadline_s, on_progress=say)

    return go


def runs(asked):
    record = Path(asked.base).parent / "drift-runs"
    text = record.read_text() if record.exists() else ""
    record.unlink(missing_ok=True)
    return text.count("runs")


def test_the_same_comparison_never_runs_twice_and_needs_no_engine_the_second_time(run, asked, tmp_path):
    runs(asked)
    assert known_report(asked) is None
    first = run()
    assert (first.prompts, first.tokens, first.agreement.rate) == (12, 24, 1)

    def missing(name):
        raise ToolMissing(name)

    assert drift(asked, tool=missing, logs=tmp_path, deadline_s=1, on_progress=print) == first
    assert known_report(asked) == first
    assert runs(asked) == 1


def test_two_at_once_compare_once(run, asked):
    runs(asked)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(run, "time.sleep(0.5)\n" + textwrap.dedent(ANSWER)) for _ in range(2)]
        assert slow[0].result() == slow[1].result()
    assert runs(asked) == 1


def test_on_a_gpu_each_of_the_two_gets_a_process_of_its_own(run, asked):
    runs(asked)
    run(request=asked.model_copy(update={"device": "cuda"}))
    assert runs(asked) == 2


def test_whatever_decides_the_numbers_decides_the_file(asked, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "hello"}\n')
    changed = [{"suite": str(other)}, {"suite": None}, {"prompts": 3}, {"max_tokens": 7}, {"dtype": "float32"}, {"environment": "other"}]
    files = {report_file(asked.model_copy(update=change)) for change in [{}, *changed]}
    assert len(files) == len(changed) + 1
    assert report_file(asked.model_copy(update={"device": "cuda", "devices": (1,)})) == report_file(asked)


@pytest.mark.parametrize(
    ("given", "seen"), [({}, "2,3"), ({"CUDA_VISIBLE_DEVICES": "0"}, "0"), ({"NVIDIA_VISIBLE_DEVICES": "all"}, "None")]
)
def test_the_gpus_to_serve_on_are_the_ones_to_compare_on_unless_the_worker_was_given_its_own(run, asked, monkeypatch, given, seen):
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(QuantizeFailed, match=f"sees {seen}"):
        run("sys.exit('sees ' + str(os.environ.get('CUDA_VISIBLE_DEVICES')))", request=asked.model_copy(update={"devices": (2, 3)}))


def test_an_engine_that_fails_is_quoted_and_leaves_nothing(run, asked):
    with pytest.raises(QuantizeFailed, match=r"(?s)ValueError: no room.*drift: \{skip: REASON\}"):
        run("raise ValueError('no room')")
    left = [path.name for path in report_file(asked).parent.iterdir() if "drift" in path.name and not path.name.startswith(".")]
    assert left == []
    assert run().tokens == 24


def test_damaged_weights_are_found_before_anything_is_measured(run, asked):
    with (Path(asked.quantized) / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(WeightsInvalid, match=r"model\.safetensors"):
        run()


def test_prompts_that_are_gone_are_named(asked):
    with pytest.raises(PermanentError, match=r"gone\.jsonl: cannot read.*drift\.suite"):
        report_file(asked.model_copy(update={"suite": "/nowhere/gone.jsonl"}))
