"""The lab's own order: what `down` finds, which ports are kept, who may work in it, and what an interrupted start leaves behind."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from crossfade import processes
from crossfade.errors import UserError
from crossfade.home import CHECKOUT
from crossfade.lab.free_ports import choose_free
from crossfade.lab.prometheus import prometheus_binary
from crossfade.lab.stack import Lab, down, members, stop_new
from crossfade.lab.turn import only_one
from crossfade.lab.up import keep_plan, plan_text

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab under a short path: unix sockets lie below it."""
    lab = Lab(Path(tempfile.mkdtemp(prefix="cf-")))
    try:
        yield lab
    finally:
        down(lab, print)
        shutil.rmtree(lab.folder)


@pytest.fixture
def crossfade(lab: Lab) -> Callable[..., subprocess.Popen[str]]:
    def begin(*arguments: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CROSSFADE_", "PREFECT_"))}
        environment = kept | {"CROSSFADE_LAB_FOLDER": str(lab.folder), "COLUMNS": "100"}
        command = [sys.executable, "-m", "crossfade.cli", *arguments]
        return subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


def until(what: str, seconds: float, look: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < give_up_s, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def test_down_stops_a_marked_process_that_nobody_recorded(lab: Lab) -> None:
    lost = subprocess.Popen(SLEEP, env=os.environ | {processes.MARK: str(lab.folder)})
    other = subprocess.Popen(SLEEP, env=os.environ | {processes.MARK: f"{lab.folder}-of-somebody-else"})
    try:
        until("the mark to be seen", 5, lambda: lost.pid in {process.pid for process in members(lab)})
        said: list[str] = []
        down(lab, said.append)
        assert lost.poll() is not None
        assert other.poll() is None
        assert said == ["stopped nothing by name and 1 more processes of the lab"]
    finally:
        for process in (lost, other):
            process.kill()
            process.wait()


def test_a_failed_second_start_stops_only_what_it_started(lab: Lab) -> None:
    old = lab.start("hub", *SLEEP)
    new = lab.start("guard", *SLEEP)
    stop_new(lab, {old.pid}, ("guard", "hub"), print)
    assert (old.alive(), new.alive()) == (True, False)
    assert lab.running() == [old]


def test_ports_lie_outside_those_the_kernel_gives_to_clients() -> None:
    low, high = (int(part) for part in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = choose_free(20)
    assert len(set(ports)) == 20
    assert all(not low <= port <= high for port in ports)


def test_ports_are_kept_while_they_are_free_and_chosen_anew_when_one_is_taken(lab: Lab) -> None:
    first = lab.ports
    assert lab.settle_ports() == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.hub))
        taken.listen()
        second = lab.settle_ports()
    assert second.hub != first.hub
    assert lab.ports == second


def test_a_port_the_kernel_may_give_to_a_client_is_not_kept(lab: Lab) -> None:
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        ephemeral = client.getsockname()[1]
    (lab.folder / "ports.json").write_text(lab.ports.model_copy(update={"target": ephemeral}).model_dump_json())
    assert lab.settle_ports().target != ephemeral


def test_ports_are_not_changed_under_a_part_that_runs(lab: Lab) -> None:
    first = lab.ports
    lab.start("hub", sys.executable, "-m", "http.server", str(first.hub), "--bind", "127.0.0.1")
    until("the port to be taken", 10, lambda: _answers(first.hub))
    assert lab.settle_ports() == first


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_lab_has_one_command_at_work_at_a_time(lab: Lab, crossfade: Callable[..., subprocess.Popen[str]]) -> None:
    with only_one(lab.folder):
        with pytest.raises(UserError, match="another crossfade command is at work"), only_one(lab.folder):
            pass
        refused = [crossfade("demo"), crossfade("up")]
        for command in refused:
            _, errors = command.communicate(timeout=60)
            assert (command.returncode, "another crossfade command is at work" in errors) == (2, True)
    with only_one(lab.folder):
        pass


def test_a_demo_refuses_to_destroy_a_lab_that_a_person_left_up(lab: Lab, crossfade: Callable[..., subprocess.Popen[str]]) -> None:
    hub = lab.start("hub", *SLEEP)
    lab.left_up.touch()
    demo = crossfade("demo")
    _, errors = demo.communicate(timeout=60)
    assert (demo.returncode, "run 'crossfade down' first" in errors) == (2, True)
    assert hub.alive()
    stopped = crossfade("down")
    said, _ = stopped.communicate(timeout=60)
    assert (stopped.returncode, "hub" in said, lab.left_up.exists()) == (0, True, False)
    assert not hub.alive()


def test_commands_find_the_lab_without_prefect(lab: Lab, crossfade: Callable[..., subprocess.Popen[str]]) -> None:
    lab.start("router", *SLEEP)
    _, errors = crossfade("status").communicate(timeout=60)
    assert f"using the lab in {lab.folder}" in errors


def test_a_plan_nobody_edited_follows_the_ports_and_an_edited_one_is_kept(lab: Lab) -> None:
    said: list[str] = []
    plan = lab.folder / "plan.yaml"
    keep_plan(lab, said.append)
    assert plan.read_text() == plan_text(lab)
    other = lab.ports.model_copy(update={"router": choose_free(1)[0]})
    (lab.folder / "ports.json").write_text(other.model_dump_json())
    keep_plan(lab, said.append)
    assert f"127.0.0.1:{other.router}" in plan.read_text()
    plan.write_text(plan.read_text().replace("soak: 30s", "soak: 31s"))
    keep_plan(lab, said.append)
    assert "soak: 31s" in plan.read_text()
    assert said == []


def test_an_edited_plan_with_other_ports_is_put_aside_and_not_lost(lab: Lab) -> None:
    said: list[str] = []
    keep_plan(lab, said.append)
    plan = lab.folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("soak: 30s", "soak: 31s"))
    (lab.folder / "ports.json").unlink()
    keep_plan(lab, said.append)
    assert plan.read_text() == plan_text(lab)
    assert "soak: 31s" in (lab.folder / "plan.yaml.old").read_text()
    assert "plan.yaml.old" in said[0]


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_ctrl_c_during_a_start_leaves_nothing_behind(lab: Lab, crossfade: Callable[..., subprocess.Popen[str]]) -> None:
    tools = CHECKOUT / ".lab"
    if not (tools / "environments").exists():
        pytest.skip("needs the tools' environments: make environments")
    prometheus_binary(tools, print)
    for shared in ("environments", "prometheus"):
        if (tools / shared).exists():
            (lab.folder / shared).symlink_to(tools / shared)
    up = crossfade("up")
    parts = [lab.home.processes / f"{name}.json" for name in ("prefect-server", "source", "router")]
    until("server, source and router to run", 90, lambda: all(part.exists() for part in parts) or up.poll() is not None)
    started = members(lab)
    up.send_signal(signal.SIGINT)
    said, errors = up.communicate(timeout=40)
    assert (up.returncode, "interrupted" in errors) == (130, True), said + errors
    assert len(started) >= 3
    assert [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert members(lab) == []
    assert not lab.left_up.exists()


def test_a_program_whose_record_is_of_another_boot_is_not_looked_for(lab: Lab) -> None:
    program = lab.start("hub", *SLEEP)
    assert processes.family(dataclasses.replace(program, started_s=psutil.boot_time() - 1000)) == []
