"""A migration that is ready to ramp, over the real router and journal, with evidence by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ramp_desk import Given, HandClock, rehearsed, start_envoy

from crossfade import processes
from crossfade.ramp.logbook import Desk


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[tuple[Desk, Given, HandClock]]:
    home, envoy = start_envoy(tmp_path)
    try:
        yield rehearsed(home)
    finally:
        processes.stop(envoy, deadline_s=5)
