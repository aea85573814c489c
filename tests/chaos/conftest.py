"""Ticks that die in the middle. One Envoy, Prometheus and journal for all tests here; each has a migration and a route of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "envoy"))  # its engines and clients on bare sockets

from chaos_cases import ALL
from chaos_stand import Stand


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("c"))
    try:
        made.open(ALL)
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in this process looks where the ticks look."""
    if "stand" in request.fixturenames:
        monkeypatch.setenv("CROSSFADE_HOME", str(request.getfixturevalue("stand").home.root))
        monkeypatch.delenv("CROSSFADE_JOURNAL", raising=False)
