"""Wait for a run of another worker, also for one that can never end: killed together with its worker, it stays RUNNING for ever.

A living run gives a sign of life every 180 s (Prefect's own heartbeat; PREFECT_FLOWS_HEARTBEAT_FREQUENCY). Only Prefect's record is
changed: should the process live after all, what it makes is found and not made twice.
"""

from __future__ import annotations

import logging
from typing import Protocol

from crossfade.ports import Clock
from crossfade.prefect_api import FlowRun, PrefectApi

LOST_S = 600.0
"""Three heartbeats and a minute: a busy event pipeline is late now and then, and what is lost took minutes to hours to make."""

HEARTBEAT = "prefect.flow-run.heartbeat"
_POLL_S = 1.0
_LOOK_EVERY_S = 30.0


class Log(Protocol):
    """What a logger of a task and one of the standard library have in common."""

    def warning(self, msg: str, *args: object) -> None:
        """Say it."""


def await_end(prefect: PrefectApi, run_id: str, clock: Clock, *, lost_s: float = LOST_S, log: Log | None = None) -> FlowRun:
    """The run, ended. One that was silent for `lost_s` while we watched is set crashed. Raises Unreachable when Prefect does not answer.

    Silence counts from our first look on: a server that was away knows of no heartbeat in that time. A run that never gave a sign
    of life is waited for without end, since its heartbeats may be switched off; one that never began is not.
    """
    began_s = looked_s = clock.now_s()
    while not (run := prefect.flow_run(run_id)).ended:
        now_s = clock.now_s()
        if now_s - looked_s >= _LOOK_EVERY_S:
            looked_s = now_s
            alive_s = run.since_s if run.state == "PENDING" else prefect.last_event_s(HEARTBEAT, f"prefect.flow-run.{run_id}")
            if run.state in ("PENDING", "RUNNING") and (silent_s := now_s - max(alive_s, began_s)) > lost_s:
                why = f"no sign of life for {silent_s:.0f} s: its worker died with it"
                (log or logging.getLogger(__name__)).warning("flow run %s is set crashed: %s", run_id, why)
                prefect.set_crashed(run_id, f"Set by Crossfade: {why}.")
        clock.sleep(_POLL_S)
    return run
