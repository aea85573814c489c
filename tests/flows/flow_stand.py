"""Migrations that stand where a test needs them, ticked by real flow runs in the lab."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil

from crossfade import processes
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import UserError
from crossfade.lab.stack import Lab
from crossfade.plan.load import parse_plan
from crossfade.ports import EntryKind
from crossfade.prefect_api import FlowRun, PrefectApi
from crossfade.ramp.logbook import Because, ShareMove
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.names import ramp_deployment, route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal
from crossfade.wiring import open_bench

_OF_THE_TARGET = ("  target_scraped:", "  kv_cache:", "  queue:")
"""Gates of the demo's plan that ask vLLM, which does not run here."""


def until(what: str, seconds: float, look: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < give_up_s, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.5)


def engines_of(run_id: str) -> list[psutil.Process]:
    """The processes that carry out a flow run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                found.append(process)
    return found


@dataclass
class Stand:
    """The lab as a test of ticks sees it."""

    lab: Lab
    plan_text: str

    def __post_init__(self) -> None:
        self.prefect, self.router = PrefectApi(self.lab.prefect_api), EnvoyRouter(self.lab.home.router)
        self.journal = SqlJournal(self.lab.home.journal)

    def rehearsed(self, name: str, *, more: str = "", ramp: str = "") -> str:
        """A migration ready to ramp: route at share 0, its deployment there with a schedule that is off.

        Its first step is 10 % and asks for no evidence."""
        lines = self.plan_text.replace("name: demo", f"name: {name}").replace("every: 5s", f"{ramp}every: 60s").splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(_OF_THE_TARGET)) + more
        source = parse_plan(text, origin="test", folder=self.lab.folder)
        [migration] = source.plan.migration_names()
        now_s = time.time()
        first = MigrationState(name=migration, plan_digest=source.digest, phase_since_s=now_s, share_since_s=now_s)
        begun = self.journal.begin(first, text)
        self.router.apply(ModelRoute(name=route_name(migration), models=(f"{name}-model",)), expect=self.router.table().generation)
        ready = begun.model_copy(update={"phase": Phase.REHEARSED})
        open_bench(migration).desk.move(ready, "note", "set by a test", Because(why="test"))
        self.deploy(migration)
        return migration

    def deploy(self, migration: str, *, every_s: float = 1, active: bool = False) -> None:
        """Create or renew the deployment of its ticks; only an active schedule starts any by itself."""
        self.prefect.schedule(
            ramp_deployment(migration),
            like="reconcile/reconcile",
            entrypoint="flows/ramp.py:ramp",
            every_s=every_s,
            parameters={"migration": migration, "attempt": 1},
            active=active,
        )

    def raise_share(self, migration: str, share_bp: int) -> None:
        """Users on the target, in journal and router."""
        route = self.router.table().route(route_name(migration)).model_copy(update={"share_bp": share_bp})
        self.router.apply(route, expect=self.router.table().generation)
        state = self.journal.state(migration).model_copy(update={"phase": Phase.RAMPING, "step": 0, "share_bp": share_bp})
        open_bench(migration).desk.move(state, "note", "set by a test", Because(why="test"))

    def tick(self, migration: str, environment: dict[str, str] | None = None, *, due: datetime | None = None) -> str:
        """Start a run of its ramp, to begin now or at a time that has passed; returns the run's id."""
        scheduled = {"type": "SCHEDULED", "state_details": {"scheduled_time": (due or datetime.now(UTC)).isoformat()}}
        body = {"state": scheduled, "job_variables": {"env": environment or {}}}
        return str(self._post(f"/deployments/{self.deployment(migration)['id']}/create_flow_run", body)["id"])

    def retry(self, run_id: str) -> None:
        """What the button in Prefect's UI does with a run that has failed or crashed."""
        answer = self._post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}})
        assert answer["status"] == "ACCEPT", answer

    def ended(self, run_id: str) -> FlowRun:
        until(f"run {run_id} to end", 120, lambda: self.prefect.flow_run(run_id).ended)
        return self.prefect.flow_run(run_id)

    def standing(self, run_id: str) -> psutil.Process:
        """The process of a run that stands still at its failpoint."""
        stopped = list[psutil.Process]()

        def look() -> bool:
            stopped[:] = [process for process in engines_of(run_id) if process.status() == psutil.STATUS_STOPPED]
            return bool(stopped)

        until(f"run {run_id} to stand still", 120, look)
        return stopped[0]

    def kill_worker(self, run_id: str) -> None:
        """SIGKILL of the worker, of all its children and of the run, as when a machine's memory runs out. Nobody says goodbye."""
        worker = processes.recorded("worker-crossfade", self.lab.home.processes)
        assert worker, "no worker runs"
        dying = {one.pid: one for one in [*processes.family(worker), *engines_of(run_id)]}
        for process in dying.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        until("worker and run to be dead", 20, lambda: not processes.family(worker) and not engines_of(run_id))

    def completed(self, migration: str) -> list[str]:
        """Runs of its ramp that did their work."""
        wanted = {"deployments": {"id": {"any_": [self.deployment(migration)["id"]]}}}
        found = self._post("/flow_runs/filter", wanted | {"flow_runs": {"state": {"name": {"any_": ["Completed"]}}}})
        return [str(run["id"]) for run in found]

    def deployment(self, migration: str) -> dict[str, Any]:
        reply = httpx.get(f"{self.lab.prefect_api}/deployments/name/{ramp_deployment(migration)}", timeout=20)
        return dict(reply.raise_for_status().json())

    def shares(self, migration: str, kind: EntryKind = "outcome") -> list[int]:
        """The shares that were written down as in force, oldest first."""
        found = self.journal.entries(migration, kind=kind, subject="share")
        return [ShareMove.model_validate_json(entry.body).route.share_bp for entry in found]

    def in_force(self, migration: str) -> int:
        return self.router.observed().route(route_name(migration)).share_bp

    def emit(self, route: str, payload: dict[str, object]) -> None:
        """A breach event by somebody who is not the guard."""
        resource = {"prefect.resource.id": f"crossfade.migration.{route}"}
        event = {"id": str(uuid.uuid4()), "event": "crossfade.sla.breached", "resource": resource, "payload": payload}
        event["occurred"] = datetime.now(UTC).isoformat()
        httpx.post(f"{self.lab.prefect_api}/events", json=[event], timeout=20).raise_for_status()

    def end_all(self) -> None:
        """Nothing under way is left for the next test."""
        for state in self.journal.states():
            if not state.ended:
                with contextlib.suppress(UserError):
                    roll_back(open_bench(state.name).desk, state.name, why="the test is over", by="test")

    def _post(self, path: str, body: object) -> Any:
        for _ in range(20):
            reply = httpx.post(f"{self.lab.prefect_api}{path}", json=body, timeout=30)
            if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # SQLite under load, now and then
                break
            time.sleep(0.5)
        return reply.raise_for_status().json()
