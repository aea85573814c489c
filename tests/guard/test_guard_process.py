"""The guard as users run it: a process of its own, with a Prefect server, and without one."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from guard_stand import Stand, eventually, free_port

from crossfade import processes
from crossfade.guard.heartbeat import Heartbeat, guard_alive
from crossfade.home import Home
from crossfade.processes import Program

pytestmark = pytest.mark.slow


def heartbeat(home: Home) -> Heartbeat:
    return Heartbeat.model_validate_json((home.root / "guard.json").read_text())


def start_guard(home: Home, api_url: str, folder: Path) -> Program:
    env = {
        "PATH": os.environ["PATH"],
        "CROSSFADE_HOME": str(home.root),
        "PREFECT_API_URL": api_url,
        "CROSSFADE_GUARD_LISTEN": "127.0.0.1:0",
    }
    command = [sys.executable, "-m", "crossfade.guard"]
    program = processes.start("guard", command, records=home.processes, log=folder / "guard.log", env={**env, "HOME": str(folder)})
    eventually(lambda: guard_alive(home, time.time()).alive or not program.alive(), within_s=30)
    assert program.alive(), program.log_tail()
    return program


def seconds_to_roll_back(stand: Stand, route: str) -> float:
    """From the first request that fails on the target to the router's own dump showing the source at 100 %."""
    stop = threading.Event()
    failed: list[float] = []
    refused: list[int] = []

    def load() -> None:
        with httpx.Client(base_url=f"http://{stand.stack.listen}", trust_env=False, timeout=10) as client:
            while not stop.is_set():
                began_s = time.monotonic()
                answer = client.post("/v1/chat/completions", json={"messages": [], "model": route})
                if answer.status_code != 200:
                    refused.append(answer.status_code)
                elif answer.json()["engine"] == "source" and broken.is_set():
                    failed.append(began_s)
                stop.wait(0.05)

    broken = threading.Event()
    clients = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    eventually(lambda: stand.counted(route) > 100)
    broken.set()
    stand.break_it(error_share=1)
    while stand.share(route):
        time.sleep(0.005)
    back_s = time.monotonic()
    stop.set()
    for client in clients:
        client.join(5)
    assert not refused, "users saw failures"
    return back_s - failed[0]


def test_a_breach_is_rolled_back_in_seconds_and_prefect_hears_of_it(
    stand: Stand, home: Home, prefect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = stand.begin(home, "chat/live")
    program = start_guard(home, prefect, tmp_path)
    try:
        stand.route("chat.live", 10_000)
        seconds = seconds_to_roll_back(stand, "chat.live")
        with capsys.disabled():
            print(f"\nfirst failing request -> source at 100 % in force: {seconds:.2f} s")  # noqa: T201
        assert seconds < 10

        def heard() -> set[str]:
            wanted = {"filter": {"event": {"prefix": ["crossfade."]}}}
            found = httpx.post(f"{prefect}/events/filter", json=wanted, trust_env=False).json()["events"]
            return {event["event"] for event in found if event["resource"]["prefect.resource.id"] == "crossfade.migration.chat.live"}

        eventually(lambda: heard() == {"crossfade.sla.breached", "crossfade.rolled-back"}, within_s=30)
        assert [entry.subject for entry in journal.entries("chat/live") if entry.kind == "breach"] == ["chat.live"]
        eventually(lambda: not list((home.root / "guard-outbox").glob("*.json")))
    finally:
        processes.stop(program, deadline_s=10)


def test_without_prefect_the_breach_is_rolled_back_all_the_same_and_the_events_wait(stand: Stand, home: Home, tmp_path: Path) -> None:
    journal = stand.begin(home, "chat/alone")
    program = start_guard(home, f"http://127.0.0.1:{free_port()}/api", tmp_path)
    try:
        second = [sys.executable, "-m", "crossfade.guard"]
        env = {"PATH": os.environ["PATH"], "CROSSFADE_HOME": str(home.root)}
        other = processes.start("second", second, records=tmp_path, log=tmp_path / "second.log", env=env)
        eventually(lambda: heartbeat(home).listens)
        assert httpx.get(f"http://{heartbeat(home).listens}/healthz", trust_env=False).json()["ok"]
        stand.route("chat.alone", 10_000)
        assert seconds_to_roll_back(stand, "chat.alone") < 10
        eventually(lambda: [entry.subject for entry in journal.entries("chat/alone") if entry.kind == "breach"] == ["chat.alone"])
        assert list((home.root / "guard-outbox").glob("*.json"))
        eventually(lambda: not other.alive())
        assert "already watches" in other.log_tail()
    finally:
        processes.stop(program, deadline_s=10)
