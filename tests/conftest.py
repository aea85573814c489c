"""For every test: examples are not timed (the machine is shared), no proxy of this machine is asked for loopback addresses, and
Ctrl-C reaches the programs that tests start, also when a shell started all of this in the background and with Ctrl-C ignored."""

import os
import signal

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.scheduler.protocol import Scheduling

settings.register_profile("crossfade", deadline=None)
settings.load_profile("crossfade")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)


class OneLab(LoadFileScheduling):
    """A file's tests stay together in one process, and so do all files that share the whole stack: it is started once."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "tests/flows" if file.startswith("tests/flows/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """`--dist loadfile` as this project means it."""
    return OneLab(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the whole stack comes last, so that the stack runs beside nothing else and a broken unit is seen first."""
    items.sort(key=lambda item: ("flows" in item.path.parts, item.get_closest_marker("slow") is not None))
