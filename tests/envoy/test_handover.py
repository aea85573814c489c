"""One Envoy takes over from another on the same port, and nobody notices."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import psutil
import pytest
from envoy_doubles import EngineDouble
from envoy_rig import Rig, eventually

from crossfade import processes
from crossfade.envoy import crew, process
from crossfade.envoy.admin import Admin
from crossfade.envoy.boot import Boot
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.stack import MIB
from crossfade.errors import RouteRejected, UserError
from crossfade.rollout.routes import ModelRoute


class Load:
    """Clients that ask all the time, half of them on a new connection each time, and remember every answer."""

    def __init__(self, rig: Rig, clients: int = 6) -> None:
        self._url = f"http://{rig.stack.listen}/v1/chat/completions"
        self.answers: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(clients)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(20)

    def _ask(self, keep_alive: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keep_alive else 0)
        with httpx.Client(trust_env=False, limits=limits, timeout=20) as client:
            while not self._over.is_set():
                try:
                    answer = client.post(self._url, json={"model": "m", "messages": []})
                    self.answers[answer.json()["engine"] if answer.status_code == 200 else str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1


class Stream:
    """One answer in flight, which the engine finishes when its gate opens."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        eventually(lambda: bool(self.lines))

    def finished(self) -> list[str]:
        self._thread.join(20)
        return self.lines

    def _read(self) -> None:
        body = {"model": "m", "stream": True}
        with httpx.stream("POST", f"http://{self._rig.stack.listen}/v1/chat/completions", json=body, trust_env=False, timeout=60) as answer:
            for line in answer.iter_lines():
                if line:
                    self.lines.append(line)


WHOLE = ["data: target first", *(f"data: target {number}" for number in range(20)), "data: [DONE]"]


def announced(rig: Rig) -> dict[str, str]:
    """Address by instance, as Prometheus reads it."""
    groups = json.loads(rig.stack.folder.joinpath("prometheus.json").read_text())
    return {group["labels"]["instance"]: group["targets"][0] for group in groups}


@pytest.mark.slow
def test_another_bootstrap_takes_over_under_load_without_a_lost_request(rig):
    rig.route(10_000)
    first = rig.program.boot
    load = Load(rig)
    streams = [Stream(rig) for _ in range(10)]
    with load.running():
        eventually(lambda: load.answers["target"] > 50)
        opener = threading.Timer(4, rig.target.open_gate)
        opener.start()
        handed = process.hand_over(replace(rig.stack, body_limit_bytes=2 * MIB), rig.home, idle_s=1, deadline_s=60)
        so_far = load.answers["target"]
        eventually(lambda: load.answers["target"] > so_far + 50)
    assert set(load.answers) == {"target"}, load.answers
    assert [stream.finished() for stream in streams] == [WHOLE] * 10
    assert handed.drained.still_active == 0
    assert not rig.program.alive()
    assert rig.router.observed() == rig.router.table() == handed.table
    assert announced(rig) == {handed.boot.id: handed.boot.metrics_listen}
    assert handed.boot.id != first.id
    assert rig.client.post("/v1/chat/completions", content=b" " * (3 * MIB)).status_code == 413


@pytest.mark.slow
def test_a_handover_to_another_target_moves_new_requests_and_leaves_streams_where_they_began(rig):
    rig.route(10_000)
    other = EngineDouble("other").start()
    stream = Stream(rig)
    moved = replace(rig.stack, target=other.address)
    handing = threading.Thread(target=process.hand_over, args=(moved, rig.home), kwargs={"idle_s": 0.5, "deadline_s": 60})
    try:
        handing.start()
        eventually(lambda: len(announced(rig)) == 2)
        eventually(lambda: rig.engines(1) == {"other": 1})
        eventually(lambda: _stopped_accepting(rig))
        with httpx.Client(base_url=rig.client.base_url, trust_env=False) as fresh:
            assert fresh.post("/v1/chat/completions", json={"model": "m"}).json()["engine"] == "other"
        assert rig.router.active_requests("target") == 1  # the old process answers it, and is asked too
        tripped = rig.router.trip("m", why="w", by="guard", at_s=0)
        assert [Admin(socket).routes() for socket in rig.stack.folder.glob("admin-*.sock")] == [tripped.table] * 2
        rig.target.open_gate()
        assert stream.finished() == WHOLE
        handing.join(20)
        assert not handing.is_alive()
        assert process.start(moved, rig.home).boot.metrics_listen == next(iter(announced(rig).values()))
        # twice handed over, the fixed address is free again and is taken before any other
        assert process.hand_over(rig.stack, rig.home, idle_s=0).boot.metrics_listen == rig.stack.metrics_listen
    finally:
        rig.target.open_gate()
        handing.join(60)
        other.stop()


def _stopped_accepting(rig: Rig) -> bool:
    sockets = RouteFolder(rig.stack.folder).other_sockets()
    return bool(sockets) and not Admin(sockets[0]).traffic().accepting


@pytest.mark.slow
def test_what_still_runs_at_the_deadline_is_reported_and_ended(rig):
    rig.route(10_000)
    streams = [threading.Thread(target=_cut_off, args=(rig,)) for _ in range(2)]
    for stream in streams:
        stream.start()
    eventually(lambda: rig.router.active_requests("target") == 2)
    handed = process.hand_over(rig.stack, rig.home, deadline_s=4)
    assert (handed.drained.still_active, handed.idle_connections) == (2, 0)
    assert 4 <= handed.drained.seconds < 8
    for stream in streams:
        stream.join(10)
    assert not rig.program.alive()


def _cut_off(rig: Rig) -> None:
    body = {"model": "m", "stream": True}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"http://{rig.stack.listen}/v1/chat/completions", json=body, trust_env=False, timeout=30)


def test_a_handover_nobody_could_serve_leaves_the_old_router_alone(rig):
    rig.route(10_000)
    before = sorted(file.name for file in rig.stack.folder.iterdir())
    with pytest.raises(UserError, match=r"keeps the address clients use: the router listens on .*, not 127.0.0.1:9"):
        process.hand_over(replace(rig.stack, listen="127.0.0.1:9"), rig.home)
    assert rig.program.alive()
    assert rig.engines(5) == {"target": 5}
    assert sorted(file.name for file in rig.stack.folder.iterdir()) == before


def test_a_handover_that_drops_a_target_in_use_is_refused(cold_rig):
    cold_rig.stack = replace(cold_rig.stack, more_targets={"b": cold_rig.target.address})
    cold_rig.start()
    cold_rig.router.apply(ModelRoute(name="m", models=("m",), share_bp=10_000, target="b"), expect=0)
    with pytest.raises(RouteRejected, match="target-b_or_source"):
        process.hand_over(replace(cold_rig.stack, more_targets={}), cold_rig.home)
    assert cold_rig.engines(5) == {"target": 5}
    assert list(announced(cold_rig)) == [cold_rig.program.boot.id]


def test_a_metrics_address_of_another_machine_leaves_the_old_one_alone(rig):
    rig.route(10_000)
    with pytest.raises(UserError, match=r"cannot show its metrics on 192\.0\.2\.1"):
        process.hand_over(replace(rig.stack, metrics_listen="192.0.2.1:9902"), rig.home)
    assert rig.engines(5) == {"target": 5}
    assert list(announced(rig)) == [rig.program.boot.id]
    assert processes.find(crew.NEXT, rig.home.processes) is None


def test_there_must_be_a_router_to_take_over_from(cold_rig):
    with pytest.raises(UserError, match="no router runs"):
        process.hand_over(cold_rig.stack, cold_rig.home)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6, 3.6])
def test_a_handover_killed_at_any_moment_is_completed_or_undone_by_the_next_start(rig, after_s):
    rig.route(10_000)
    wanted = replace(rig.stack, body_limit_bytes=2 * MIB)
    driver = multiprocessing.get_context("fork").Process(target=process.hand_over, args=(wanted, rig.home))
    driver.start()
    driver.join(after_s)
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    assert rig.engines(20) == {"target": 20}
    try:
        serves = process.start(rig.stack, rig.home)
    except UserError:
        serves = process.start(wanted, rig.home)
    eventually(lambda: _alone(rig, serves), within_s=15)
    assert rig.engines(20) == {"target": 20}
    assert list(announced(rig)) == [serves.boot.id]
    rig.route(5000)
    assert rig.router.observed() == rig.router.table()


@pytest.mark.slow
def test_a_router_killed_while_the_one_before_it_drains_is_started_again_beside_it(rig):
    rig.route(10_000)
    stream = Stream(rig)
    driver = multiprocessing.get_context("fork").Process(target=process.hand_over, args=(rig.stack, rig.home))
    driver.start()

    def recorded_is_the_new_one() -> bool:  # else the one that has the stream would be killed here
        old, recorded = {one.pid for one in crew.draining(rig.home)}, processes.find(process.NAME, rig.home.processes)
        return bool(old) and recorded is not None and recorded.pid not in old

    eventually(recorded_is_the_new_one)
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    rig.program = processes.find(process.NAME, rig.home.processes)
    rig.kill()
    again = rig.start()
    assert rig.engines(20) == {"target": 20}
    assert set(announced(rig)) == {again.boot.id, *(Boot.of_process(one.pid).id for one in crew.draining(rig.home))}
    rig.target.open_gate()
    assert stream.finished() == WHOLE


def _alone(rig: Rig, serves: process.Running) -> bool:
    """Whether one process is left, after asking for it once more: each start ends what has finished draining."""
    folder = RouteFolder(rig.stack.folder)
    with folder.locked(deadline_s=5):
        crew.serving(folder, rig.home)
    running = [one.pid for one in psutil.process_iter() if any(f"{rig.stack.folder}/" in part for part in _command(one))]
    return running == [serves.pid]


def _command(one: psutil.Process) -> list[str]:
    try:
        return one.cmdline() if one.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def test_a_client_that_reads_until_the_connection_ends_is_not_kept_waiting_by_a_drain(rig):
    Admin(rig.stack.folder / "admin.sock").drain()
    host, port = rig.stack.listen.split(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"connection: close" in received
    assert b'"engine":"source"' in received
    assert time.monotonic() - began < 4
