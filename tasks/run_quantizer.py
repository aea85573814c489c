"""On the gpu pool: run the quantizer in its own environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from prefect import get_run_logger

from crossfade.home import Home
from crossfade.quantize.request import QuantizeRequest
from crossfade.quantize.run import quantize
from crossfade.runtime.environments import find
from tasks.quiet import quiet_task

LONGEST_S = 24 * 3600.0


@quiet_task("quantize", retries=1, retry_delay_s=5, timeout=timedelta(seconds=LONGEST_S))
def run_quantizer(request: QuantizeRequest) -> str:
    """Folder of the quantized weights, verified. The same inputs never run twice, on whatever worker."""
    home, log = Home.from_environment(), get_run_logger()

    def tool(name: str) -> Path:
        return find(name, home).python

    return str(quantize(request, tool=tool, logs=home.logs, deadline_s=LONGEST_S, on_progress=log.info))
