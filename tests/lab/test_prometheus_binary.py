"""A real Prometheus, scraping itself in the place of router and engine."""

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from crossfade import processes
from crossfade.errors import PermanentError, ToolMissing, Unreachable
from crossfade.home import CHECKOUT
from crossfade.lab.prometheus import (
    ScrapeTarget,
    found_prometheus,
    prometheus_binary,
    retarget,
    start_prometheus,
    wait_until_scraping,
)


@pytest.fixture(scope="session")
def binary() -> Path:
    return prometheus_binary(CHECKOUT / ".lab", print)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Started:
    url: str
    address: str
    lab: Path


@pytest.fixture
def started(binary: Path, tmp_path: Path) -> Iterator[Started]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    targets = [ScrapeTarget("crossfade-router", address), ScrapeTarget("vllm", f"127.0.0.1:{free_port()}")]
    try:
        url = start_prometheus(binary, lab=tmp_path, port=port, targets=targets, records=tmp_path / "run", logs=tmp_path / "logs")
        yield Started(url, address, tmp_path)
    finally:
        processes.stop_all(tmp_path / "run", deadline_s=5)


@pytest.mark.slow
def test_it_holds_samples_once_waiting_has_ended_and_names_what_it_cannot_read(started: Started) -> None:
    wait_until_scraping(started.url, 30)
    answer = httpx.get(f"{started.url}/api/v1/query", params={"query": 'up{job="crossfade-router"}'}, trust_env=False).json()
    assert [sample["value"][1] for sample in answer["data"]["result"]] == ["1"]
    with pytest.raises(Unreachable, match="connection refused"):
        wait_until_scraping(started.url, 0.5, jobs=("vllm",))

    retarget(started.url, lab=started.lab, targets=[ScrapeTarget("vllm", started.address)])
    wait_until_scraping(started.url, 30, jobs=("vllm",))


@pytest.mark.slow
def test_it_listens_on_loopback_only(started: Started) -> None:
    flags = httpx.get(f"{started.url}/api/v1/status/flags", trust_env=False).json()["data"]
    assert flags["web.listen-address"] == started.address


def test_a_taken_port_is_said_with_the_programs_own_words(binary: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PermanentError, match="address already in use"):
            start_prometheus(
                binary, lab=tmp_path, port=taken.getsockname()[1], targets=[], records=tmp_path / "run", logs=tmp_path / "logs"
            )
    assert processes.find("prometheus", tmp_path / "run") is None


def test_nobody_answering_is_said_so() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        wait_until_scraping(f"http://127.0.0.1:{free_port()}", 0.1)


def test_a_prometheus_on_path_is_taken_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "prometheus"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert prometheus_binary(tmp_path / "lab", print) == program
    assert not (tmp_path / "lab").exists()


def test_without_apt_the_message_names_the_other_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="distribution"):
        prometheus_binary(tmp_path / "lab", print)


@pytest.mark.skipif(not shutil.which("apt-get") or not shutil.which("dpkg-deb"), reason="no apt-get on this machine")
def test_a_source_that_does_not_answer_leaves_no_half_unpacked_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    broken = tmp_path / "apt.conf"
    broken.write_text(
        f'Dir::Etc::sourcelist "{tmp_path / "none"}";\nDir::Etc::sourceparts "{tmp_path / "none.d"}";\nDir::Etc::parts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(broken))
    if shutil.which("prometheus"):
        pytest.skip("this machine has a Prometheus on PATH")
    with pytest.raises(ToolMissing, match=r"(?s)apt-get said.*Ways to get it"):
        prometheus_binary(tmp_path / "lab", print)
    assert found_prometheus(tmp_path / "lab") == ()


@pytest.mark.slow
def test_it_is_fetched_without_touching_the_systems_own_package_state(tmp_path: Path) -> None:
    if shutil.which("prometheus") or not shutil.which("apt-get"):
        pytest.skip("needs apt-get, and no Prometheus on PATH")
    before = system_state()
    told: list[str] = []
    fetched = prometheus_binary(tmp_path, told.append)
    assert fetched.is_relative_to(tmp_path)
    assert os.access(fetched, os.X_OK)
    assert system_state() == before
    assert prometheus_binary(tmp_path, told.append) == fetched
    assert sum("unpacked" in line for line in told) == 1


def system_state() -> dict[str, float]:
    places = (Path("/var/lib/apt/lists"), Path("/var/cache/apt"))
    return {str(path): path.stat().st_mtime for place in places if place.is_dir() for path in (place, *place.iterdir())}
