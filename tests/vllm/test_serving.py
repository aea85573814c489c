"""A real vLLM on the CPU with the lab model, started as the product starts it."""

import json
import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import httpx
import psutil
import pytest
from serving_in_tests import LAB_MODEL, free_port, launch_of, wait

from crossfade.assess.load_step import longest_stall
from crossfade.errors import EngineDied, EngineWarming, GateFailed, PermanentError, UserError
from crossfade.home import Home
from crossfade.runtime.launch import Difference, Origin
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.vllm.client import VllmTarget
from crossfade.vllm.flags import Fitted, fit, installed_flags
from crossfade.vllm.key import read_key
from crossfade.vllm.load import ride

pytestmark = pytest.mark.slow


def test_it_answers_the_lab_models_prompts_correctly(serving):
    rows = [json.loads(line) for line in (LAB_MODEL / "eval.jsonl").read_text().splitlines()][::6]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: serving.client.complete("lab", row["prompt"], max_tokens=64).text, rows))
    assert sum(answer == row["answer"] for answer, row in zip(answers, rows, strict=True)) >= len(rows) - 1


def test_it_serves_every_name_and_the_first_is_the_metric_label(serving):
    assert serving.client.models() == ("lab", "lab:latest", "lab-bot", "lab-bot:latest", "crossfade-rehearsal")
    for name in serving.client.models():
        assert serving.client.complete(name, "What is 4+6?", max_tokens=8).finish in ("stop", "length")
    metrics = httpx.get(f"{serving.client.url}/metrics", trust_env=False).text
    assert 'model_name="lab"' in metrics
    assert 'model_name="lab-bot"' not in metrics


def test_it_exports_every_metric_the_gates_read(serving):
    serving.client.check_metric_names()


def test_a_metric_name_of_yesterday_is_found_missing(serving):
    with pytest.raises(GateFailed, match="vllm:gpu_cache_usage_perc"):
        serving.client.check_metric_names(["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"])


def test_a_name_it_does_not_serve_is_refused_for_good(serving):
    with pytest.raises(PermanentError, match=r"404.*llama3"):
        serving.client.complete("llama3", "hello", max_tokens=4)


def test_a_prompt_that_is_too_long_is_refused_for_good(serving):
    with pytest.raises(PermanentError, match="400"):
        serving.client.complete("lab", "word " * 2000, max_tokens=4)


def test_it_listens_on_loopback_only(serving):
    family = [psutil.Process(serving.target.program.pid), *psutil.Process(serving.target.program.pid).children(recursive=True)]
    listening = {one.laddr for process in family for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    assert (("127.0.0.1", serving.spec.port)) in listening
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}


def test_after_our_restart_it_is_adopted_and_not_started_again(serving):
    again = ProcessRuntime(serving.runtime.home).start_target("lab", launch_of(serving.spec))
    assert again.origin is Origin.ADOPTED
    assert again.program == serving.target.program


def test_another_command_line_does_not_replace_a_server_that_may_be_serving(serving):
    with pytest.raises(PermanentError, match="already runs as process"):
        serving.runtime.start_target("lab", launch_of(replace(serving.spec, max_num_seqs=8)), on_difference=Difference.REFUSE)
    assert serving.target.program.alive()


def test_its_port_is_refused_to_another_and_the_message_names_the_holder(serving, tmp_path):
    with pytest.raises(UserError, match=rf"port {serving.spec.port} .*process \d+"):
        ProcessRuntime(Home(tmp_path)).start_target("second", serving.launch)


def test_damaged_weights_end_the_start_with_their_diagnosis(spec, tmp_path):
    def garble(folder):
        (folder / "config.json").write_text("{not json")

    def truncate(folder):
        weights = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])

    def start(name, damage):
        folder = shutil.copytree(LAB_MODEL, tmp_path / name)
        damage(folder)
        broken = replace(spec, weights=folder, port=free_port())
        runtime = ProcessRuntime(Home(tmp_path / "home"))
        with closing(VllmTarget(f"http://127.0.0.1:{broken.port}", timeout_s=10)) as client:
            target = runtime.start_target(name, launch_of(broken))
            try:
                wait(runtime, target, client, "lab")
            except EngineDied as error:
                return str(error), target
            finally:
                runtime.stop_target(name, deadline_s=5)
        raise AssertionError(f"{name} became ready")

    with ThreadPoolExecutor(2) as pool:
        garbled, truncated = pool.submit(start, "garbled", garble), pool.submit(start, "truncated", truncate)
        message, target = garbled.result()
        assert "config.json is missing or is not JSON" in message
        assert target.program.log in message
        message, target = truncated.result()
        assert "a weights file is damaged (safetensors" in message
        assert "weights verify" in message
    assert not target.program.alive()


def test_it_carries_several_requests_at_once_while_its_engine_takes_steps(serving):
    found = ride(
        serving.client, "lab", ["What is 4+6?", "Describe the billing service."], at_once=6, hold_s=3, max_tokens=64, on_progress=id
    )
    assert found.failed == 0
    assert len(found.answers_s) >= 6
    looks = [look.readings for look in found.looks]
    assert looks[-1].steps > looks[0].steps
    assert looks[-1].tokens - looks[0].tokens > len(found.answers_s)
    assert looks[0].kv_tokens >= 512
    assert longest_stall([(look.at_s, look.readings.steps, look.readings.busy) for look in found.looks]) < 3


def test_its_own_help_knows_every_flag_it_was_started_with(serving):
    accepted = installed_flags(serving.spec.python, serving.launch.env)
    assert fit(serving.launch.command, accepted) == Fitted(serving.launch.command, ())
    assert "hermes" in accepted.tool_parsers


def test_a_stopping_server_finishes_the_answer_it_is_giving_and_leaves_nothing(spec, tmp_path):
    """It also asks for a key, takes tools and has sampling defaults of its own, because a start of its own costs half a minute."""
    key = tmp_path / "key"
    key.write_text("sk-of-a-test")
    key.chmod(0o600)
    said = {"tool_parser": "hermes", "reasoning_parser": "qwen3", "sampling": {"top_k": 40}, "flags": {"enable_prefix_caching": False}}
    stopping = replace(spec, port=free_port(), drain_s=15, api_key=read_key(key), **said)
    runtime, launch = ProcessRuntime(Home(tmp_path)), launch_of(stopping)
    client = VllmTarget(f"http://127.0.0.1:{stopping.port}", timeout_s=30, key_file=key)
    target = runtime.start_target("stopping", launch)
    try:
        wait(runtime, target, client, "lab")
        family = [process.pid for process in psutil.Process(target.program.pid).children(recursive=True)]
        body = {"model": "lab", "messages": [{"role": "user", "content": "x"}], "max_tokens": 400, "ignore_eos": True, "stream": True}
        url = f"{target.url}/v1/chat/completions"
        with closing(VllmTarget(client.url, timeout_s=10)) as stranger, pytest.raises(PermanentError, match="wants a key"):
            stranger.complete("lab", "What is 4+6?", max_tokens=4)
        assert "sk-of-a-test" not in " ".join(psutil.Process(target.program.pid).cmdline())
        sent = {"Authorization": "Bearer sk-of-a-test"}
        with httpx.stream("POST", url, json=body, headers=sent, timeout=60, trust_env=False) as stream:
            lines = stream.iter_lines()
            next(lines)
            stop = threading.Thread(target=runtime.stop_target, args=("stopping",), kwargs={"deadline_s": 25})
            stop.start()
            rest = [line for line in lines if line]
            stop.join(40)
        assert rest[-1] == "data: [DONE]"
    finally:
        runtime.stop_target("stopping", deadline_s=5)
    assert not target.program.alive()
    assert not [pid for pid in family if still_runs(pid, session=target.program.pid)]
    with pytest.raises(EngineWarming):
        client.models()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", stopping.port))


def still_runs(pid: int, *, session: int) -> bool:
    """A zombie that nobody has reaped yet holds neither port nor memory."""
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
