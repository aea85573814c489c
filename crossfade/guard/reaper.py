"""Ticks that hang. A worker and its run killed together leave the run RUNNING for ever, and the schedule's limit of 1 with it.

Only Prefect's record is changed. Should the process live after all, it moves nothing wrongly: the journal's versions and the route
table's generations refuse whoever is late.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crossfade.guard.prefect_http import PrefectHttp, epoch_s
from crossfade.rollout.names import migration_of

RAMP_FLOW = "ramp"
"""The flow whose deployments are the ticks of one migration each."""

SWEEP_FLOW = "sweep"
"""The flow whose only deployment ticks all migrations in one run. Every guard frees it: which home it serves is not known to Prefect."""

SHORTEST_S = 60.0
"""No run is reaped before it is this old: a busy machine takes half a minute to start one, whatever the interval."""

_INTERVALS = 2
_OTHERWISE_S = 300.0
"""Taken for the interval of a schedule that has none, like one written as cron."""


@dataclass(frozen=True)
class Reaped:
    """A run that was set crashed; of no single migration when it was a sweep's."""

    migration: str
    run: str
    why: str


class Reaper:
    """Finds ramp and sweep runs that sit in RUNNING or PENDING beyond two intervals of their schedule, and sets them CRASHED."""

    def __init__(self, prefect: PrefectHttp, *, shortest_s: float = SHORTEST_S) -> None:
        self._prefect, self._shortest_s = prefect, shortest_s

    def reap(self, *, mine: Callable[[str], bool], now_s: float) -> list[Reaped]:
        """Set what hangs crashed, of the migrations that are `mine`; raises Unreachable when Prefect does not answer.

        Runs are asked for before their deployments, for there are few: of any list Prefect names 200 at a time. Ages are taken by the
        server's clock, `now_s` is ours for a server that tells no time. Prefect answers a refused change with 200 as well: only one
        that says ACCEPT has freed the place.
        """
        ramping = {"flows": {"name": {"any_": [RAMP_FLOW, SWEEP_FLOW]}}}
        runs, server_s = self._all("/flow_runs/filter", ramping | {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}})
        ids = sorted({str(run["deployment_id"]) for run in runs if run["deployment_id"]})
        if not ids:
            return []
        found, _ = self._all("/deployments/filter", {"deployments": {"id": {"any_": ids}}})
        ramps = {str(ramp["id"]): ramp for ramp in found if _sweeps(ramp) or mine(_migration(ramp))}
        theirs = [run for run in runs if str(run["deployment_id"]) in ramps]
        return list(self._reaped(theirs, ramps, now_s if math.isnan(server_s) else server_s))

    def _all(self, path: str, wanted: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], float]:
        """Everything that is wanted, page by page until one is empty, and the server's time at its first answer."""
        answer = self._prefect.post(path, wanted)
        found, server_s = list(answer.found), answer.server_s
        while answer.found:
            answer = self._prefect.post(path, {**wanted, "offset": len(found)})
            found += answer.found
        return found, server_s

    def _reaped(self, runs: Iterable[Mapping[str, Any]], ramps: Mapping[str, Mapping[str, Any]], now_s: float) -> Iterable[Reaped]:
        for run in runs:
            ramp = ramps[str(run["deployment_id"])]
            allowed_s = max(self._shortest_s, _INTERVALS * _interval_s(ramp))
            age_s = now_s - epoch_s(str(run["state"]["timestamp"]))
            if age_s <= allowed_s:
                continue
            why = f"run {run['name']} sat in {run['state']['type']} for {age_s:.0f} s, over the {allowed_s:.0f} s it may"
            crashed = {"type": "CRASHED", "name": "Crashed", "message": f"Set by Crossfade's guard: {why}."}
            answer = self._prefect.post(f"/flow_runs/{run['id']}/set_state", {"state": crashed}).found
            if answer["status"] == "ACCEPT":
                yield Reaped(_migration(ramp), str(run["id"]), why)


def _sweeps(ramp: Mapping[str, Any]) -> bool:
    return ramp["name"] == SWEEP_FLOW and "migration" not in (ramp.get("parameters") or {})


def _migration(ramp: Mapping[str, Any]) -> str:
    if _sweeps(ramp):
        return ""
    return str((ramp.get("parameters") or {}).get("migration") or migration_of(str(ramp["name"])))


def _interval_s(ramp: Mapping[str, Any]) -> float:
    """The shortest interval the deployment is scheduled at."""
    schedules = [one["schedule"] for one in ramp.get("schedules") or []]
    intervals = [float(schedule["interval"]) for schedule in schedules if schedule.get("interval")]
    return min(intervals, default=_OTHERWISE_S)


def body(reaped: Reaped) -> str:
    """Body of the journal's note."""
    return json.dumps({"why": reaped.why, "run": reaped.run})
