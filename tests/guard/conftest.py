from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from guard_stand import Stand, eventually, free_port

from crossfade import processes
from crossfade.home import Home


@pytest.fixture(scope="session")
def whole_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    stand = Stand(tmp_path_factory.mktemp("g"))
    yield stand
    stand.close()


@pytest.fixture
def stand(whole_stand: Stand) -> Iterator[Stand]:
    whole_stand.break_it()
    yield whole_stand
    whole_stand.break_it()
    for route in whole_stand.router.table().routes:
        whole_stand.router.remove(route.name, expect=whole_stand.router.table().generation)
        whole_stand.router.resume(route.name)


@pytest.fixture
def home(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return stand.home_beside(tmp_path / "home")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server on SQLite; its API address."""
    folder = tmp_path_factory.mktemp("prefect")
    port, records = free_port(), folder / "processes"
    settings = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "crossfade.prefect_server", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **settings}
    program = processes.start("prefect", command, records=records, log=folder / "prefect.log", env=env)
    url = f"http://127.0.0.1:{port}/api"

    def healthy() -> bool:
        assert program.alive(), program.log_tail()
        try:
            return httpx.get(f"{url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    eventually(healthy, within_s=150)
    yield url
    processes.stop_all(records, deadline_s=10)
