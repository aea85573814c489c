from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_stand import Stand

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
