from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exposition import Exposition
from polling import free_port

from crossfade import processes
from crossfade.home import CHECKOUT
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.prometheus.metrics import PrometheusMetrics


@pytest.fixture(scope="session")
def binary() -> Path:
    return prometheus_binary(CHECKOUT / ".lab", print)


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    served = Exposition()
    yield served
    served.close()


Launch = Callable[[str, int], str]


@pytest.fixture
def launch(binary: Path, tmp_path: Path) -> Iterator[Launch]:
    """Start a Prometheus that scrapes an address, on a port of ours; the same folder continues the same history."""
    records = tmp_path / "processes"

    def launch_one(address: str, port: int) -> str:
        targets = [ScrapeTarget("crossfade-router", address)]
        url = start_prometheus(binary, lab=tmp_path / "lab", port=port, targets=targets, records=records, logs=tmp_path)
        wait_until_scraping(url, 30)
        return url

    yield launch_one
    processes.stop_all(records, deadline_s=5)


@pytest.fixture(scope="session")
def scraped() -> Iterator[Exposition]:
    served = Exposition()
    yield served
    served.close()


@pytest.fixture(scope="session")
def url(binary: Path, scraped: Exposition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prometheus for all tests that only add to routes of their own."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = [ScrapeTarget("crossfade-router", scraped.address)]
    found = start_prometheus(binary, lab=folder, port=free_port(), targets=targets, records=folder / "processes", logs=folder)
    wait_until_scraping(found, 30)
    yield found
    processes.stop_all(folder / "processes", deadline_s=5)


@pytest.fixture
def metrics(url: str) -> PrometheusMetrics:
    return PrometheusMetrics(url, timeout_s=5, stale_after_s=5)
