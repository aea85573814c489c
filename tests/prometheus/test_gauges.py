"""GPUs as DCGM's exporter tells a real Prometheus of them."""

from __future__ import annotations

import pytest
from exposition import Exposition
from polling import free_port, until

from crossfade.errors import Unreachable
from crossfade.prometheus.gauges import gauge_by
from crossfade.runtime.gpus import DCGM_FREE, DCGM_USED, gpus_from_dcgm


def test_each_gpu_is_one_value_told_apart_by_its_labels(url: str, scraped: Exposition) -> None:
    labels = 'modelName="NVIDIA L4",Hostname="node-7"'
    for gpu, used in (("0", 2000), ("1", 500)):
        scraped.add({f'{DCGM_USED}{{gpu="{gpu}",{labels}}}': used, f'{DCGM_FREE}{{gpu="{gpu}",{labels}}}': 23_000 - used})
    until(lambda: gauge_by(url, DCGM_FREE, ("gpu",), timeout_s=5), lambda found: len(found) == 2)
    used_mib, free_mib = (
        {(gpu, name): value for (gpu, name), value in gauge_by(url, metric, ("gpu", "modelName"), timeout_s=5).items()}
        for metric in (DCGM_USED, DCGM_FREE)
    )
    first, second = gpus_from_dcgm(used_mib, free_mib, {})
    assert (first.name, first.total_bytes, first.used_bytes) == ("NVIDIA L4", 23_000 * 2**20, 2000 * 2**20)
    assert second.used_bytes == 500 * 2**20


def test_a_gauge_nobody_scrapes_is_empty_and_no_prometheus_is_an_error(url: str) -> None:
    assert gauge_by(url, "DCGM_FI_NOT_THERE", ("gpu",), timeout_s=5) == {}
    with pytest.raises(Unreachable, match="does not say"):
        gauge_by(f"http://127.0.0.1:{free_port()}", DCGM_FREE, ("gpu",), timeout_s=2)
