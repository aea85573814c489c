"""The process runtime with small real programs; tests/vllm runs it with vLLM itself."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from dataclasses import dataclass, replace
from functools import partial

import psutil
import pytest

from crossfade.errors import EngineDied, EngineWarming, PermanentError, UserError
from crossfade.home import Home
from crossfade.ports import SystemClock
from crossfade.processes import bound_logs
from crossfade.runtime.launch import Difference, EndedAtStart, Launch, Origin
from crossfade.runtime.process_runtime import LOGS_KEPT, ProcessRuntime

SERVER = """
    import http.server, sys
    print("loading", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN_FAMILY = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        print("up", flush=True)
    time.sleep(600)
"""


@dataclass(frozen=True)
class Found:
    summary: str
    detail: str
    resolution: str


def read_log(log_tail, exit_code):
    lines = log_tail.splitlines()
    return Found("the engine said why", f"{lines[-1] if lines else 'nothing'}; exit code {exit_code}", "Do the other thing.")


def launch(program, *arguments, port=None, env=None):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = port or free.getsockname()[1]
    command = (sys.executable, "-c", textwrap.dedent(program), str(chosen), *arguments)
    return Launch(command, {"PATH": os.environ["PATH"]} | (env or {}), chosen)


def answered(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError as error:
        raise EngineWarming(f"no answer yet: {error}") from None


def wait(runtime, target, *, probe=None, deadline_s=20.0, said=None):
    return runtime.wait_ready(
        target,
        probe=probe or partial(answered, target.url),
        diagnose=read_log,
        clock=SystemClock(),
        deadline_s=deadline_s,
        on_progress=(said if said is not None else []).append,
    )


def until(condition, within_s=10.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def runtime(tmp_path):
    runtime = ProcessRuntime(Home(tmp_path))
    yield runtime
    for record in runtime.home.processes.glob("*.json"):
        runtime.stop_target(record.stem, deadline_s=1)


def test_a_target_is_ready_when_it_has_answered(runtime):
    target = runtime.start_target("engine", launch(SERVER))
    assert target.origin is Origin.STARTED
    assert wait(runtime, target) >= 0
    answered(target.url)


def test_a_second_runtime_adopts_what_runs_from_whatever_shell(runtime):
    asked = launch(SERVER)
    first = runtime.start_target("engine", asked)
    elsewhere = replace(asked, env={**asked.env, "PATH": "/elsewhere"})
    second = ProcessRuntime(runtime.home).start_target("engine", elsewhere)
    assert second.origin is Origin.ADOPTED
    assert second.program == first.program
    assert runtime.find_target("engine", asked) == second


def test_the_same_command_with_another_setting_is_another_target(runtime):
    asked = launch(SERVER)
    target = runtime.start_target("engine", asked)
    changed = replace(asked, env={**asked.env, "CUDA_VISIBLE_DEVICES": "1"})
    assert runtime.find_target("engine", changed) is None
    with pytest.raises(PermanentError, match=str(target.program.pid)):
        runtime.start_target("engine", changed)
    replaced = runtime.start_target("engine", changed, on_difference=Difference.REPLACE)
    assert replaced.program.pid != target.program.pid
    assert not target.program.alive()


def test_a_dead_target_is_started_anew(runtime):
    asked = launch(SERVER)
    target = runtime.start_target("engine", asked)
    os.kill(target.program.pid, signal.SIGKILL)
    until(lambda: not target.program.alive())
    assert runtime.find_target("engine", asked) is None
    assert runtime.start_target("engine", asked).origin is Origin.STARTED


def test_a_taken_port_names_its_holder_before_anything_starts(runtime):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} for engine is held by process {os.getpid()} .*target.runtime.port"):
            runtime.start_target("engine", launch(SERVER, port=port))
    assert not list(runtime.home.processes.glob("*.json"))


def test_a_target_that_dies_is_reported_with_diagnosis_and_log_at_once(runtime):
    target = runtime.start_target("engine", launch("import sys; print('ValueError: no such weights'); sys.exit(7)"))
    began = time.monotonic()
    with pytest.raises(EndedAtStart) as died:
        wait(runtime, target, deadline_s=60)
    assert time.monotonic() - began < 10
    assert "the engine said why (ValueError: no such weights; exit code 7). Do the other thing." in str(died.value)
    assert target.program.log in str(died.value)
    assert died.value.finding.detail == "ValueError: no such weights; exit code 7"


def test_the_exit_code_of_a_target_that_was_dead_before_anybody_looked_is_known(runtime):
    asked = launch("")
    dead = replace(asked, command=("/bin/sh", "-c", "kill -9 $$"))
    for _ in range(20):
        target = runtime.start_target("engine", dead)
        with pytest.raises(EndedAtStart, match="exit code -9"):
            wait(runtime, target)


def test_children_of_a_dead_target_do_not_keep_its_port(runtime):
    program = """
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    """
    target = runtime.start_target("engine", launch(program))
    with pytest.raises(EngineDied):
        wait(runtime, target)
    until(lambda: not _session_of(target.program.pid))


def test_a_target_that_never_answers_is_given_up_at_the_deadline_and_its_last_words_are_quoted(runtime):
    target = runtime.start_target("engine", launch("import time; print('still compiling', flush=True); time.sleep(600)"))
    said = []
    with pytest.raises(EngineDied, match=r"did not answer within .*still compiling.*start_within"):
        wait(runtime, target, deadline_s=2.5, said=said)
    assert any("still compiling" in line for line in said)
    assert target.program.alive()


def test_a_refusal_that_waiting_cannot_mend_ends_the_wait(runtime):
    target = runtime.start_target("engine", launch(SERVER))

    def refused():
        raise PermanentError("it serves another model")

    with pytest.raises(PermanentError, match="another model"):
        wait(runtime, target, probe=refused, deadline_s=60)


def test_a_target_that_dies_of_the_question_is_diagnosed_from_its_log(runtime):
    target = runtime.start_target("engine", launch("import time; print('ValueError: poisoned', flush=True); time.sleep(600)"))

    def deadly():
        until(lambda: "poisoned" in target.program.log_tail())
        os.kill(target.program.pid, signal.SIGKILL)
        until(lambda: not target.program.alive())
        raise EngineDied("it answered 500")

    with pytest.raises(EngineDied, match="ValueError: poisoned; exit code -9"):
        wait(runtime, target, probe=deadly)


def test_stopping_takes_the_whole_family_also_when_it_ignores_the_request(runtime):
    target = runtime.start_target("engine", launch(STUBBORN_FAMILY))
    until(lambda: "up" in target.program.log_tail())
    assert len(_session_of(target.program.pid)) == 2
    runtime.stop_target("engine", deadline_s=0.5)
    until(lambda: not _session_of(target.program.pid))
    assert not list(runtime.home.processes.iterdir())


@pytest.mark.parametrize("again", ["start", "stop"])
def test_the_engine_of_a_server_that_was_killed_is_ended_before_another_one_is_started_and_when_it_is_stopped(runtime, tmp_path, again):
    """On a GPU it would hold the memory that the next server needs."""
    engine = tmp_path / "engine"
    orphan = f"""
        import os, time
        if (pid := os.fork()) == 0:
            time.sleep(600)
        open({str(engine)!r}, "w").write(str(pid))
        time.sleep(600)
    """
    asked = launch(orphan)
    target = runtime.start_target("target-x", asked)
    until(lambda: engine.exists() and engine.read_text())
    child = psutil.Process(int(engine.read_text()))
    os.kill(target.program.pid, signal.SIGKILL)
    until(lambda: not target.program.alive())
    assert child.is_running()
    if again == "start":
        runtime.start_target("target-x", launch(SERVER))
    else:
        runtime.stop_target("target-x", deadline_s=5)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_stopping_what_does_not_run_changes_nothing(runtime):
    runtime.stop_target("engine", deadline_s=1)


def test_each_start_has_its_own_log_and_the_last_ones_are_kept(runtime):
    for number in range(LOGS_KEPT + 3):
        target = runtime.start_target("engine", launch(f"print('start {number}')"))
        with pytest.raises(EngineDied):
            wait(runtime, target)
    logs = sorted(runtime.home.logs.iterdir())
    assert len(logs) == LOGS_KEPT + 1
    assert (runtime.home.logs / "engine.log").read_text() == f"start {LOGS_KEPT + 2}\n"
    assert (runtime.home.logs / "engine.1.log").read_text() == f"start {LOGS_KEPT + 1}\n"


def test_a_target_outlives_the_process_that_started_it(runtime, tmp_path):
    asked = launch(SERVER)
    starter = textwrap.dedent(f"""
        from pathlib import Path
        from crossfade.home import Home
        from crossfade.runtime.launch import Launch
        from crossfade.runtime.process_runtime import ProcessRuntime
        import os
        ProcessRuntime(Home(Path({str(tmp_path)!r}))).start_target("engine", Launch({asked.command!r}, {dict(asked.env)!r}, {asked.port}))
        os.kill(os.getpid(), 9)
    """)
    assert subprocess.run([sys.executable, "-c", starter], check=False).returncode == -9
    target = runtime.start_target("engine", asked)
    assert target.origin is Origin.ADOPTED
    wait(runtime, target)


def test_a_program_whose_starter_died_before_it_wrote_a_record_is_adopted_and_not_started_twice(runtime):
    """It has not opened its port yet, as a vLLM that loads: nothing but its log tells of it."""
    asked = launch("import time; print('loading', flush=True); time.sleep(600)")
    first = runtime.start_target("engine", asked)
    (runtime.home.processes / "engine.json").unlink()
    second = ProcessRuntime(runtime.home).start_target("engine", asked)
    assert second.origin is Origin.ADOPTED
    assert second.program == first.program
    assert runtime.find_target("engine", asked) == second
    (runtime.home.processes / "engine.json").unlink()
    with pytest.raises(PermanentError, match=f"already runs as process {first.program.pid}"):
        runtime.start_target("engine", replace(asked, env={**asked.env, "CUDA_VISIBLE_DEVICES": "1"}))


WRITES_WHEN_ASKED = """
    import itertools, signal, sys
    lines = (f"line {number} {'x' * 80}" for number in itertools.count())
    for _ in iter(lambda: signal.sigwait({signal.SIGUSR1}), None):
        print(*itertools.islice(lines, 200), sep="\\n", flush=True)
"""


def test_the_log_of_one_running_server_stays_small_and_loses_nothing_recent(runtime):
    limit = 30_000
    waiting = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); print('ready', flush=True)\n"
    target = runtime.start_target("engine", launch(waiting + textwrap.dedent(WRITES_WHEN_ASKED)))
    log, kept = (runtime.home.logs / name for name in ("engine.log", "engine.cut.log"))
    until(lambda: "ready" in target.program.log_tail())
    for burst in range(1, 8):
        os.kill(target.program.pid, signal.SIGUSR1)
        until(lambda burst=burst: f"line {200 * burst - 1} " in target.program.log_tail(1))
        cut = bound_logs(runtime.home.processes, limit=limit)
        assert cut == (("engine",) if burst % 2 == 0 else ())
        assert log.stat().st_size <= limit
        newest = [int(line.split()[1]) for line in target.program.log_tail(200).splitlines()]
        assert newest == list(range(200 * (burst - 1), 200 * burst))
    assert kept.stat().st_size <= 2 * limit
    assert sorted(path.name for path in runtime.home.logs.iterdir()) == ["engine.cut.log", "engine.log"]
    runtime.stop_target("engine", deadline_s=5)
    runtime.start_target("engine", launch(SERVER))
    assert not kept.exists(), "a diagnosis would read what the server before printed"


def test_secrets_of_the_environment_are_in_no_repr():
    assert "hunter2" not in repr(launch(SERVER, env={"TOKEN": "hunter2"}))


def _session_of(leader):
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members
