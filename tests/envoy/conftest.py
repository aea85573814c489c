from __future__ import annotations

from collections.abc import Iterator

import pytest
from envoy_rig import Rig


@pytest.fixture
def cold_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("r"))
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(cold_rig: Rig) -> Rig:
    cold_rig.start()
    return cold_rig


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """For tests that change nothing but routes of their own."""
    rig = Rig(tmp_path_factory.mktemp("r"))
    try:
        rig.start()
        yield rig
    finally:
        rig.close()
