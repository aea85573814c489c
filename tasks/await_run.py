"""Wait for a run of another worker, also for one that can never end: killed together with its worker, it stays RUNNING for ever.

A living run gives a sign of life every 180 s (Prefect's own heartbeat; PREFECT_FLOWS_HEARTBEAT_FREQUENCY). To set a living one crashed
would cost its work, so silence counts only while everything between it and us is seen to work: Prefect answers, this process is not
held up, and heartbeats of our own run arrive.
"""

from __future__ import annotations

import logging
from typing import Protocol

from crossfade.errors import Unreachable
from crossfade.ports import Clock
from crossfade.prefect_api import FlowRun, PrefectApi

LOST_S = 600.0
"""Three heartbeats and a minute. Heartbeats must come at least three times as often."""

PATIENCE_S = 300.0
"""A Prefect server that does not answer is waited for that long: a restart takes a minute."""

HEARTBEAT = "prefect.flow-run.heartbeat"
_POLL_S = 1.0
_LOOK_EVERY_S = 30.0


class Log(Protocol):
    """What a logger of a task and one of the standard library have in common."""

    def warning(self, msg: str, *args: object) -> None:
        """Say it."""


class _Silence:
    """For how long a run gave no sign of life that we would have seen."""

    def __init__(self, prefect: PrefectApi, run_id: str, own_id: str, now_s: float) -> None:
        self._prefect, self._run_id, self._own_id = prefect, run_id, own_id
        self._newest_s = self._own_s = float("nan")
        self._looked_s = now_s
        self.begin(now_s)

    def begin(self, now_s: float) -> None:
        """Count from now on: what was before could not be seen."""
        self._since_s = self._own_since_s = now_s

    def look(self, now_s: float) -> float:
        """Seconds of silence, 0 between looks; 0 as well for a run that never gave a sign, since they may be switched off."""
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return 0.0
        self._looked_s = now_s
        newest_s, own_s = (self._prefect.last_event_s(HEARTBEAT, f"prefect.flow-run.{run}") for run in (self._run_id, self._own_id))
        if own_s != self._own_s:
            self._own_s, self._own_since_s = own_s, now_s
        if newest_s != self._newest_s:
            self._newest_s, self._since_s = newest_s, now_s
        if now_s - self._own_since_s > LOST_S / 2 or own_s == float("inf"):
            self._since_s = now_s  # nobody's heartbeats arrive
        return 0.0 if newest_s == float("inf") else now_s - self._since_s


def await_end(
    prefect: PrefectApi,
    run_id: str,
    clock: Clock,
    *,
    own_id: str,
    lost_s: float = LOST_S,
    patience_s: float = PATIENCE_S,
    log: Log | None = None,
) -> FlowRun:
    """The run, ended. One that was silent for `lost_s` is set crashed; `own_id` is the run that waits.

    Raises Unreachable when Prefect stays without an answer for `patience_s`, and what else `PrefectApi.flow_run` raises.
    """
    answered_s = polled_s = clock.now_s()
    silence = _Silence(prefect, run_id, own_id, answered_s)
    while True:
        try:
            if (run := prefect.flow_run(run_id)).ended:
                return run
            now_s = clock.now_s()
            if run.state != "RUNNING" or now_s - polled_s > _LOOK_EVERY_S or now_s < polled_s:
                silence.begin(now_s)  # not there yet; or we stood still, as a suspended machine does; or the clock was set
            elif (silent_s := silence.look(now_s)) > lost_s:
                why = f"no sign of life for {silent_s:.0f} s: its worker died with it"
                (log or logging.getLogger(__name__)).warning("flow run %s is set crashed: %s", run_id, why)
                prefect.set_crashed(run_id, f"Set by Crossfade: {why}.")
            answered_s = now_s
        except Unreachable:
            now_s = clock.now_s()
            if now_s - answered_s > patience_s:
                raise
            silence.begin(now_s)
        polled_s = now_s
        clock.sleep(_POLL_S)
