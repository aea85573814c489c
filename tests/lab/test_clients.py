import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty_engine import WORDS, faulty_engine

from crossfade import processes
from crossfade.errors import PermanentError, UserError
from crossfade.lab.client_report import KINDS, ClientReport, load_report
from crossfade.lab.clients import Load, Users, read_load
from crossfade.lab.gguf import write_gguf
from crossfade.parity.cases import Case, load_suite

ANSWER = "".join(WORDS)


def shown(base, tmp_path, answer=ANSWER, **changes):
    """The last report of a short load of 20 requests, two rounds of the mix."""
    plain = {"rps": 200, "seconds": 0.1, "timeout_s": 5, "grace_s": 5}
    load = Load(base=base, model="lab", cases=(Case("What is 4+6?", answer),), report=tmp_path / "r.json", **{**plain, **changes})

    async def run():
        await Users(load).run(asyncio.Event())

    asyncio.run(run())
    report = load_report(load.report)
    assert report.requests == report.answered + report.failed + report.abandoned + report.in_flight
    assert len(report.failures) == report.failed == sum(report.errors.values())
    return report


def test_whole_answers_of_all_four_kinds_are_counted_in_the_mix(tmp_path):
    with faulty_engine("whole") as engine:
        report = shown(engine.base, tmp_path)
    assert (report.requests, report.answered, report.failed, report.wrong, report.finished) == (20, 20, 0, 0, True)
    assert {kind.kind: kind.answered for kind in report.kinds} == dict(zip(KINDS, (8, 8, 2, 2), strict=True))
    streamed = {kind.kind: kind.overall.ttft_p50_ms is not None for kind in report.kinds}
    assert streamed == {"openai": False, "openai-stream": True, "ollama": False, "ollama-stream": True}
    assert report.overall.n == report.recent.n == 20
    assert 0 < report.overall.total_p50_ms <= report.overall.total_p95_ms


@pytest.mark.parametrize(
    ("behaviour", "plain", "streamed"),
    [
        ("503", "status", "status"),
        ("close", "connection", "connection"),
        ("cut", "cut", "cut"),
        ("unfinished", None, "cut"),
        ("error line", None, "cut"),
        ("empty", "empty", "empty"),
    ],
)
def test_every_fault_is_named_as_its_user_would(tmp_path, behaviour, plain, streamed):
    with faulty_engine(behaviour) as engine:
        report = shown(engine.base, tmp_path)
    seen = {(failure.kind.endswith("stream"), failure.error) for failure in report.failures}
    assert seen == {(stream, error) for stream, error in ((False, plain), (True, streamed)) if error}
    assert all(failure.text and failure.ms > 0 for failure in report.failures)


def test_an_answer_no_client_can_read_is_a_failure(tmp_path):
    with faulty_engine("garbage") as engine:
        report = shown(engine.base, tmp_path)
    assert (report.answered, report.failed) == (0, 20)


def test_a_dead_router_fails_every_request_as_a_connection(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        report = shown(f"http://127.0.0.1:{free.getsockname()[1]}", tmp_path)
    assert report.errors == {"connection": 20}


def test_an_engine_that_hangs_is_given_up_after_the_timeout(tmp_path):
    with faulty_engine("hang") as engine:
        report = shown(engine.base, tmp_path, timeout_s=0.3)
    assert report.errors == {"timeout": 20}
    assert all(failure.ms >= 250 for failure in report.failures)


def test_requests_beyond_the_bound_are_counted_as_saturated_and_those_under_way_at_the_end_as_abandoned(tmp_path):
    with faulty_engine("hang") as engine:
        report = shown(engine.base, tmp_path, max_in_flight=5, grace_s=0.2)
    assert (report.requests, report.saturated, report.abandoned, report.failed, report.in_flight) == (5, 15, 5, 0, 0)


def test_a_wrong_answer_is_noted_and_is_no_error(tmp_path):
    with faulty_engine("whole") as engine:
        report = shown(engine.base, tmp_path, answer="something else")
    assert (report.answered, report.failed, report.wrong) == (20, 0, 20)


def test_sigterm_stops_sending_lets_requests_finish_and_leaves_a_finished_report(tmp_path):
    suite, where = tmp_path / "s.jsonl", tmp_path / "r.json"
    suite.write_text(json.dumps({"prompt": "What is 4+6?", "answer": ANSWER}) + "\n")
    with faulty_engine("slow") as engine:
        command = ["--base", engine.base, "--model", "lab", "--suite", suite, "--report", where, "--rps", "20"]
        load = subprocess.Popen([sys.executable, "-m", "crossfade.lab.clients", *map(str, command)])
        try:
            assert engine.asked.wait(30)
            wait_for(lambda: load_report(where).in_flight > 0)
            os.kill(load.pid, signal.SIGTERM)
            assert load_report(where).finished is False
            engine.go_on.set()
            assert load.wait(15) == 0
        finally:
            load.kill()
            load.wait(5)
    report = load_report(where)
    assert report.finished
    assert report.requests == report.answered > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--suite": "missing.jsonl"}, r"missing\.jsonl: cannot read the suite"),
        ({"--suite": "empty.jsonl"}, "the suite has no case"),
        ({"--rps": "0"}, "above zero"),
    ],
)
def test_a_mistake_on_the_command_line_is_the_users(tmp_path, monkeypatch, changed, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.jsonl").write_text('{"prompt": "p"}')
    (tmp_path / "empty.jsonl").write_text("")
    written = {"--base": "http://127.0.0.1:1", "--model": "m", "--suite": "s.jsonl", "--report": "r.json", **changed}
    with pytest.raises(UserError, match=said):
        read_load([part for pair in written.items() for part in pair])


def test_the_program_ends_with_2_and_one_message_for_a_mistake(tmp_path):
    command = ["--base", "http://127.0.0.1:1", "--model", "m", "--suite", "missing.jsonl", "--report", "r.json"]
    ended = subprocess.run(
        [sys.executable, "-m", "crossfade.lab.clients", *command], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("missing.jsonl: cannot read the suite")
    assert "Traceback" not in ended.stderr


def test_before_the_first_write_a_report_is_empty_and_a_broken_one_is_an_error(tmp_path):
    assert load_report(tmp_path / "none.json") == ClientReport()
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(PermanentError, match="not a report"):
        load_report(tmp_path / "broken.json")


@pytest.mark.slow
def test_the_stand_in_answers_both_official_clients_streamed_and_not(tmp_path):
    model = Path(__file__).parents[2] / "deployments" / "lab-model"
    weights = write_gguf(model, tmp_path / "lab.gguf", "Q4_K_M")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "crossfade.lab.source", "--port", str(port), "--model", f"lab:latest={weights}"]
    source = processes.start("source", command, records=tmp_path / "p", log=tmp_path / "source.log", env=os.environ)
    try:
        wait_for(lambda: listens(port), within_s=60)
        cases = load_suite((model / "eval.jsonl").read_text(), "eval.jsonl")
        where = tmp_path / "r.json"
        load = Load(base=f"http://127.0.0.1:{port}", model="lab:latest", cases=cases, report=where, rps=10, seconds=5)
        asyncio.run(Users(load).run(asyncio.Event()))
    finally:
        processes.stop(source, deadline_s=10)
    report = load_report(where)
    assert report.failures == ()
    assert (report.requests, report.answered) == (50, 50)
    assert report.wrong <= 5, "llama.cpp answers this suite nearly always right"


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition, within_s=10):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
