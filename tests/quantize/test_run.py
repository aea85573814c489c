"""What the run promises about its folder, with small real worker programs in the tool's place for the faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tool_doubles import fake_python

from crossfade.errors import NotEnoughRoom, QuantizeFailed, QuantizeOverdue, ToolMissing, WeightsInvalid
from crossfade.quantize.request import QuantizeRequest, output_folder
from crossfade.quantize.run import quantize
from crossfade.weights import verify

COPY = """
    shutil.copy(job["source"] + "/model.safetensors", job["out"])
    config = json.load(open(job["source"] + "/config.json")) | {"quantization_config": {"quant_method": "compressed-tensors"}}
    json.dump(config, open(job["out"] + "/config.json", "w"))
    open(job["out"] + "/tokenizer.json", "w").write("rewritten by the tool")
    print("runs", file=open(job["source"] + "/../runs", "a"))
    print("a line that is no JSON")
    print(json.dumps({"event": "result", "text": "done"}), flush=True)
"""


@pytest.fixture
def asked(lab_weights, tmp_path):
    return QuantizeRequest(weights=str(lab_weights), out_root=str(tmp_path / "weights"), scheme="fp8")


@pytest.fixture
def run(asked, tmp_path):
    def go(body=COPY, *, request=asked, deadline_s=60, say=print):
        program = fake_python(tmp_path, body)
        return quantize(request, tool=lambda _: program, logs=tmp_path / "logs", deadline_s=deadline_s, on_progress=say)

    return go


def runs(asked):
    record = Path(asked.weights).parent / "runs"
    text = record.read_text() if record.exists() else ""
    record.unlink(missing_ok=True)
    return text.count("runs")


def leftovers(asked):
    return [path.name for path in output_folder(asked).parent.iterdir() if not path.name.startswith(".")]


def test_scheme_none_is_the_source_and_runs_nothing(lab_weights, run, asked):
    assert run("sys.exit(1)", request=asked.model_copy(update={"scheme": "none"})) == lab_weights


def test_the_result_is_sealed_and_keeps_the_sources_own_tokenizer(run, asked, lab_weights):
    folder = run()
    manifest = verify(folder)
    assert folder == output_folder(asked)
    assert (manifest.scheme, manifest.base) == ("fp8", f"lab/tiny@{manifest.commit}")
    assert manifest.made_by.startswith("llmcompressor ")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (lab_weights / name).read_bytes()
    assert "quantization_config" in json.loads((folder / "config.json").read_text())
    assert leftovers(asked) == [folder.name]


def test_the_same_inputs_never_run_twice_and_need_no_tool_the_second_time(run, asked, tmp_path):
    runs(asked)
    first = run()

    def missing(name):
        raise ToolMissing(name)

    assert quantize(asked, tool=missing, logs=tmp_path, deadline_s=1, on_progress=print) == first
    assert runs(asked) == 1


def test_two_at_once_run_the_tool_once(run, asked):
    runs(asked)
    said = []
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(run, "time.sleep(0.5)\n" + textwrap.dedent(COPY), say=said.append) for _ in range(2)]
        assert {one.result() for one in slow} == {output_folder(asked)}
    assert runs(asked) == 1
    assert any("waiting" in line for line in said)


def test_a_damaged_result_is_put_aside_and_made_anew_instead_of_being_served(run, asked):
    folder, said = run(), []
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        last = weights.read(1)
        weights.seek(-1, os.SEEK_END)
        weights.write(bytes([last[0] ^ 1]))
    assert run(say=said.append) == folder
    assert verify(folder).scheme == asked.scheme
    with pytest.raises(WeightsInvalid, match="sha256"):
        verify(folder.with_name(f"{folder.name}.damaged"))
    assert any("made anew" in line for line in said)


def test_a_tool_that_fails_is_quoted_and_leaves_no_result(run, asked):
    with pytest.raises(QuantizeFailed, match=r"(?s)exit code 1.*ValueError: no such layer"):
        run("raise ValueError('no such layer')")
    assert not output_folder(asked).exists()
    assert run() == output_folder(asked)
    assert leftovers(asked) == [output_folder(asked).name]


def test_a_tool_that_ends_well_without_a_result_is_not_believed(run):
    with pytest.raises(QuantizeFailed, match="no result"):
        run("sys.exit(0)")


def test_weights_that_were_not_quantized_are_not_believed(run):
    with pytest.raises(QuantizeFailed, match="names no quantization"):
        run('shutil.copy(job["source"] + "/config.json", job["out"])\nprint(json.dumps({"event": "result"}), flush=True)')


def test_a_tool_without_end_is_stopped_at_the_deadline(run):
    began = time.monotonic()
    with pytest.raises(QuantizeFailed, match=r"was stopped after 0\.5 s"):
        run("time.sleep(600)", deadline_s=0.5)
    assert time.monotonic() - began < 20


def test_what_a_stopped_tool_had_started_ends_with_it(run, tmp_path):
    """As vLLM's engine does, which is a process of its own on a GPU and would keep its memory."""
    child = tmp_path / "child"
    with pytest.raises(QuantizeOverdue):
        run(f"if (pid := os.fork()) == 0: time.sleep(600)\nopen({str(child)!r}, 'w').write(str(pid))\ntime.sleep(600)", deadline_s=1)
    give_up_s = time.monotonic() + 10
    while psutil.pid_exists(int(child.read_text())) and psutil.Process(int(child.read_text())).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_no_token_of_ours_reaches_the_tool(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(QuantizeFailed) as failed:
        run("print(dict(os.environ), file=sys.stderr); sys.exit(1)")
    assert "HF_HUB_OFFLINE" in str(failed.value)
    assert "hf_secret" not in str(failed.value)


def test_a_full_disk_is_found_before_the_tool_starts(run, asked, tmp_path):
    source = Path(shutil.copytree(asked.weights, tmp_path / "source"))
    manifest = json.loads((source / "weights.json").read_text())
    manifest["files"][0]["bytes"] = psutil.disk_usage(str(tmp_path)).total * 2
    (source / "weights.json").write_text(json.dumps(manifest))
    with pytest.raises(NotEnoughRoom, match="bytes free"):
        run("sys.exit(0)", request=asked.model_copy(update={"weights": str(source)}))


def test_a_damaged_source_is_found_before_the_tool_starts(run, asked, tmp_path):
    source = Path(shutil.copytree(asked.weights, tmp_path / "source"))
    with (source / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(WeightsInvalid, match=r"model\.safetensors"):
        run("sys.exit(0)", request=asked.model_copy(update={"weights": str(source)}))


def test_killed_half_way_it_leaves_no_process_and_the_next_run_finishes(run, asked, tmp_path):
    endless = fake_python(
        tmp_path, "import threading\nthreading.Thread(target=lambda: (os.read(0, 1), os._exit(3))).start()\ntime.sleep(600)"
    )
    victim = textwrap.dedent(f"""
        from pathlib import Path
        from crossfade.quantize.request import QuantizeRequest
        from crossfade.quantize.run import quantize
        request = QuantizeRequest.model_validate_json({asked.model_dump_json()!r})
        quantize(request, tool=lambda _: Path({str(endless)!r}), logs=Path({str(tmp_path)!r}), deadline_s=600, on_progress=print)
    """)
    process = subprocess.Popen([sys.executable, "-c", victim])
    until(lambda: psutil.Process(process.pid).children())
    worker = psutil.Process(process.pid).children()[0]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running()
    assert leftovers(asked) == [output_folder(asked).name + ".partial"]
    assert run() == output_folder(asked)
    assert leftovers(asked) == [output_folder(asked).name]


def test_interrupting_us_stops_the_tool(run):
    before = {process.pid for process in psutil.Process().children()}  # other tests' parts may run beside us
    workers = []

    def impatient(line):
        if "started" in line:
            workers.extend(process for process in psutil.Process().children() if process.pid not in before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run('print(json.dumps({"event": "progress", "text": "started"}), flush=True)\ntime.sleep(600)', say=impatient)
    assert workers
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)


def until(condition, within_s=20.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
