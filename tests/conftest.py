"""For every test: examples are not timed (the machine is shared), and no proxy of this machine is asked for loopback addresses."""

import os

import pytest
from hypothesis import settings

settings.register_profile("crossfade", deadline=None)
settings.load_profile("crossfade")

for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the whole stack comes last, so that the stack runs beside nothing else and a broken unit is seen first."""
    items.sort(key=lambda item: ("flows" in item.path.parts, item.get_closest_marker("slow") is not None))
