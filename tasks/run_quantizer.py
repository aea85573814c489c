"""On the gpu pool: run the quantizer in its own environment, then compare what it made with what it was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from prefect import get_run_logger

from crossfade.home import Home
from crossfade.parity.drift import DriftReport
from crossfade.quantize.drift import DriftRequest, drift
from crossfade.quantize.request import QuantizeRequest
from crossfade.quantize.run import quantize
from crossfade.runtime.environments import find
from tasks.quiet import quiet_task

LONGEST_S = 24 * 3600.0


@quiet_task("quantize", retries=1, retry_delay_s=5, timeout=timedelta(seconds=LONGEST_S))
def run_quantizer(request: QuantizeRequest) -> str:
    """Folder of the quantized weights, verified. The same inputs never run twice, on whatever worker."""
    home, log = Home.from_environment(), get_run_logger()
    return str(quantize(request, tool=_tools(home), logs=home.logs, deadline_s=LONGEST_S, on_progress=log.info))


@quiet_task("compare weights", retries=1, retry_delay_s=5, timeout=timedelta(seconds=LONGEST_S))
def compare_weights(request: DriftRequest) -> DriftReport:
    """How far the quantized weights are from the unquantized ones, through vLLM as it runs on this machine; found if it was measured."""
    home, log = Home.from_environment(), get_run_logger()
    here = request.model_copy(update={"device": "cuda" if shutil.which("nvidia-smi") else "cpu"})
    return drift(here, tool=_tools(home), logs=home.logs, deadline_s=LONGEST_S, on_progress=log.info)


def _tools(home: Home) -> Callable[[str], Path]:
    return lambda name: find(name, home).python
