"""Prefect flows: order and branches only.

A flow that ends as Failed has said why in its state. Prefect's engine then logs a traceback of its own `FailedRun`, which says
nothing more; the filter below takes it off that record and leaves those of real bugs alone.
"""

from __future__ import annotations

import logging

from prefect.exceptions import FailedRun


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], FailedRun):
        record.exc_info, record.exc_text = None, None
    return True


for _name in ("prefect.engine", "prefect.flow_engine", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_without_traceback)
