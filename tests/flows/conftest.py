"""One whole stack for all tests of flows: real Prefect server and workers, Envoy, Prometheus, llama.cpp, and vLLM when a test needs it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import UserError
from crossfade.home import CHECKOUT
from crossfade.lab.prometheus import prometheus_binary
from crossfade.lab.stack import Lab, down
from crossfade.lab.turn import only_one
from crossfade.lab.up import up
from crossfade.runtime.process_runtime import ProcessRuntime
from crossfade.store.journal import SqlJournal

TOOLS = CHECKOUT / ".lab"


LONGEST_SOCKET = 100
"""Bytes; the kernel allows 107 for a unix socket's path."""


@contextmanager
def a_folder_of_our_own() -> Iterator[Path]:
    """A lab's folder that no other test run uses. It lies where the next run finds, stops and removes what a killed one left."""
    with ExitStack() as held:
        for number in range(8):
            folder = TOOLS / f"t{number}"
            if len(os.fsencode(Lab(folder).home.router / "admin-0123456789ab.sock")) > LONGEST_SOCKET:
                break
            try:
                held.enter_context(only_one(folder))
            except UserError:
                continue
            yield folder
            return
        yield Path(tempfile.mkdtemp(prefix="cf-"))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with a_folder_of_our_own() as folder:
        yield from started_lab(Lab(folder))


def started_lab(lab: Lab) -> Iterator[Lab]:
    """The stack in `lab`, without what a killed run left there. Environments and Prometheus are the checkout's, built by `make test`."""
    down(lab, print)
    empty(lab.folder)
    prometheus_binary(TOOLS, print)
    for shared in ("environments", "prometheus"):
        if (TOOLS / shared).exists():
            (lab.folder / shared).symlink_to(TOOLS / shared)
    before = dict(os.environ)
    try:
        os.environ["CROSSFADE_ENVIRONMENTS"] = str(lab.folder / "environments")
        up(lab, print)
        os.environ.update(lab.environment())
        settings = {PREFECT_API_URL: lab.prefect_api, PREFECT_HOME: lab.folder / "prefect"}
        with temporary_settings(settings):
            yield lab
    finally:
        os.environ.clear()
        os.environ.update(before)
        down(lab, print)
        empty(lab.folder)


def empty(folder: Path) -> None:
    """Remove everything but the lock we hold."""
    for path in folder.iterdir():
        if path.name == "lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@pytest.fixture
def clean_routes(lab: Lab) -> Iterator[None]:
    """Afterwards no route is left, so that the next test's model names are free."""
    yield
    router = EnvoyRouter(lab.home.router)
    for route in router.table().routes:
        router.remove(route.name, expect=router.table().generation)
        router.resume(route.name)


@pytest.fixture
def journal(lab: Lab) -> SqlJournal:
    return SqlJournal(lab.home.journal)


@pytest.fixture
def plan_text(lab: Lab) -> str:
    """The demo's plan, quicker: short waits, small numbers."""
    text = (lab.folder / "plan.yaml").read_text()
    for long, short in (
        ("baseline: 15s", "baseline: 3s\npatience: 5s"),
        ("every: 20s, hold: 15s, min_requests: 15", "every: 5s, hold: 4s, min_requests: 4"),
        ("judge: {interval: 5s, min_evidence: 10s, blip: 15s", "judge: {interval: 2s, min_evidence: 4s, blip: 8s"),
        ("error_rate: {at_most: 5%}", "error_rate: {at_most: 20%}"),
        ("ttft_p95: {at_most: 2s}", "ttft_p80: {at_most: 2s}"),
        ("duration_p95: {at_most: 8s}", "duration_p80: {at_most: 8s}"),
        ("soak: 30s", "soak: 5s"),
    ):
        assert long in text
        text = text.replace(long, short)
    return text


@pytest.fixture
def artifacts(lab: Lab) -> Callable[[str], str]:
    """The newest artifact under a key, as Prefect's UI would show it."""

    def latest(key: str) -> str:
        reply = httpx.get(f"{lab.prefect_api}/artifacts/{key}/latest", timeout=20)
        assert reply.is_success, f"no artifact {key}: {reply.status_code}"
        return str(reply.json()["data"])

    return latest


@pytest.fixture
def stopped_target(lab: Lab) -> Iterator[None]:
    """Afterwards no vLLM is left, so that the next test's target finds its port free."""
    yield
    for record in lab.home.processes.glob("target-*.json"):
        ProcessRuntime(lab.home).stop_target(record.stem, deadline_s=45)
