"""The little of Prefect's HTTP API that people's commands need. Importing the prefect package for it would cost seconds."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from pydantic import JsonValue

from crossfade.errors import PermanentError, Unreachable, UserError

REFUSED = "Refused"
"""Name of the state of a run that ended because of a user's mistake."""

ENGINE = f"{shlex.quote(sys.executable)} -m prefect.engine"
"""What a process worker is told to start a run with, here. Left to itself, Prefect 3.8 starts one Python that prepares the run's folder
and becomes a second one that runs it, and both import Prefect: 6 s of CPU a tick instead of 3.6 (docs/benchmarks/ticks.md)."""

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_TRIES = 5


@dataclass(frozen=True)
class FlowRun:
    """A flow run. `ended_s` is NaN while it runs."""

    id: str
    state: str
    state_name: str
    message: str
    parameters: dict[str, str]
    ended_s: float

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in TERMINAL


@dataclass(frozen=True)
class Event:
    """An event somebody emitted."""

    id: str
    occurred_s: float


class AlreadyThere(PermanentError):
    """Prefect has something of that name already."""


class PrefectApi:
    """A Prefect server by its API address; retries 5xx, which SQLite under several workers answers now and then.

    Every call raises Unreachable when it stays without an answer, UserError for a wrong address, password or name, PermanentError
    when the server refuses what it was sent.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        auth = os.environ.get("PREFECT_API_AUTH_STRING", "")
        user, _, password = auth.partition(":")
        self._client = httpx.Client(base_url=url, timeout=40, auth=(user, password) if auth else None)

    @property
    def ui(self) -> str:
        """Where a person looks."""
        return self.url.removesuffix("/api")

    def healthy(self) -> bool:
        """Whether the server answers at all."""
        try:
            return self._client.get("/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def start(self, deployment: str, parameters: Mapping[str, JsonValue]) -> str:
        """Start a deployment as the UI's form does; returns the flow run's id. Raises UserError when it is not deployed."""
        found = self._json("GET", f"/deployments/name/{deployment}")
        run = self._json(
            "POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}}
        )
        return str(run["id"])

    def flow_run(self, run_id: str) -> FlowRun:
        """One run."""
        return _flow_run(self._json("GET", f"/flow_runs/{run_id}"))

    def runs_of(self, flow: str) -> list[FlowRun]:
        """All runs of a flow, newest first."""
        found = self._json("POST", "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC"})
        return [_flow_run(run) for run in found]

    def events(self, name: str, *, since_s: float) -> list[Event]:
        """Every event of that name since then."""
        since = datetime.fromtimestamp(since_s, UTC).isoformat()
        found = self._json("POST", "/events/filter", {"filter": {"event": {"name": [name]}, "occurred": {"since": since}}})
        return [Event(str(event["id"]), _epoch_s(str(event["occurred"]))) for event in found["events"]]

    def last_event_s(self, name: str, resource: str) -> float:
        """When the newest event of that name about a resource occurred; infinite when there never was one."""
        wanted = {"event": {"name": [name]}, "resource": {"id": [resource]}, "order": "DESC"}
        found = self._json("POST", "/events/filter", {"filter": wanted, "limit": 1})["events"]
        return _epoch_s(str(found[0]["occurred"])) if found else math.inf

    def set_crashed(self, run_id: str, why: str) -> None:
        """Have a run that can no longer say so itself be crashed; nothing changes for one that has ended."""
        crashed = {"type": "CRASHED", "name": "Crashed", "message": why}
        self._json("POST", f"/flow_runs/{run_id}/set_state", {"state": crashed})

    def ensure_pool(self, name: str, template: JsonValue) -> None:
        """A process work pool of that name with this base job template; no change where it exists."""
        self._ensure("/work_pools/", {"name": name, "type": "process", "base_job_template": template})

    def ensure_queue(self, pool: str, name: str, *, priority: int) -> None:
        """A queue in a pool, served before those of a higher number; no change where it exists."""
        self._ensure(f"/work_pools/{pool}/queues", {"name": name, "priority": priority})

    def schedule(
        self, name: str, *, like: str, entrypoint: str, every_s: float, parameters: dict[str, JsonValue], active: bool = True
    ) -> str:
        """Create or renew the deployment `name` (`flow/deployment`) with an interval schedule, which may be off; returns its id.

        It runs where the deployment `like` runs, with its job variables and from the same folder; on a process pool by this very Python
        (`ENGINE`). One run at a time: a tick that finds another one at work is cancelled, not queued. What `prefect deploy --all` does
        leaves it alone, because it stands in no prefect.yaml.
        """
        model = self._json("GET", f"/deployments/name/{like}")
        job = dict(model.get("job_variables") or {})
        if self._json("GET", f"/work_pools/{model['work_pool_name']}")["type"] == "process":
            job.setdefault("command", ENGINE)
        flow, deployment = name.split("/", 1)
        flow_id = self._json("POST", "/flows/", {"name": flow})["id"]
        made = self._json(
            "POST",
            "/deployments/",
            {
                "name": deployment,
                "flow_id": flow_id,
                "entrypoint": entrypoint,
                "path": model.get("path"),
                "pull_steps": model.get("pull_steps"),
                "work_pool_name": model["work_pool_name"],
                "work_queue_name": model["work_queue_name"],
                "job_variables": job,
                "parameters": parameters,
                "schedules": [
                    {"schedule": {"interval": every_s, "anchor_date": _anchor(name, every_s)}, "active": active, "slug": _slug(deployment)}
                ],
                "concurrency_limit": 1,
                "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
                "paused": False,
                "enforce_parameter_schema": True,
            },
        )
        return str(made["id"])

    def interval_s(self, name: str) -> float:
        """Seconds between two scheduled runs of a deployment; infinite without an active interval schedule, or without the deployment."""
        try:
            found = self._json("GET", f"/deployments/name/{name}")
        except UserError:
            return math.inf
        schedules = [] if found.get("paused") else found.get("schedules") or []
        return min((float(one["schedule"].get("interval") or math.inf) for one in schedules if one["active"]), default=math.inf)

    def pause_deployment(self, name: str) -> None:
        """No more scheduled runs of it; those that wait are removed. Raises UserError when there is no such deployment."""
        self._json("POST", f"/deployments/{self._json('GET', f'/deployments/name/{name}')['id']}/pause_deployment")

    def _ensure(self, path: str, body: object) -> None:
        with suppress(AlreadyThere):
            self._json("POST", path, body)

    def _json(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - the API's shapes end in this module
        problem = ""
        for attempt in range(_TRIES):
            try:
                reply = self._client.request(method, path, json=body)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__} {error}"
            else:
                if reply.is_success:
                    return self._parsed(reply)
                self._refuse_hopeless(reply, path)
                problem = f"{reply.status_code} {reply.text[:300]}"
            time.sleep(0.25 * 2**attempt)
        raise Unreachable(f"Prefect at {self.url} does not answer {path}: {problem}. Is PREFECT_API_URL right and the server up?")

    def _parsed(self, reply: httpx.Response) -> Any:  # noqa: ANN401
        if reply.status_code == httpx.codes.NO_CONTENT:
            return {}
        try:
            return reply.json()
        except ValueError:
            raise UserError(f"what answers at {self.url} is not Prefect's API. PREFECT_API_URL must end in /api.") from None

    def _refuse_hopeless(self, reply: httpx.Response, path: str) -> None:
        """Raise at once for answers that a later try would get again."""
        status = reply.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise UserError(
                f"Prefect at {self.ui} answers {status}: PREFECT_API_AUTH_STRING is missing or wrong; write it as user:password."
            )
        if status == httpx.codes.NOT_FOUND:
            what, _, deployment = path.strip("/").partition("/name/")
            raise UserError(
                f"Prefect at {self.ui} has no deployment {deployment!r}. Run 'prefect deploy --all' against it."
                if what == "deployments"
                else f"Prefect at {self.ui} has no {path}. Is PREFECT_API_URL the server this began on?"
            )
        if status == httpx.codes.CONFLICT:
            raise AlreadyThere(f"Prefect at {self.ui} has {path} already: {reply.text[:300]}")
        if status < httpx.codes.INTERNAL_SERVER_ERROR and status not in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS):
            raise PermanentError(f"Prefect at {self.ui} refused {path}: {status} {reply.text[:300]}")


def _anchor(name: str, every_s: float) -> str:
    """A moment from which its runs are counted, by its name: many ramps begun together shall not all be due in the same second."""
    spread_s = zlib.crc32(name.encode()) / 2**32 * every_s
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=spread_s)).isoformat()


def _slug(deployment: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", deployment.lower()).strip("-")[:100]


def _flow_run(run: dict[str, Any]) -> FlowRun:
    state = run.get("state") or {}
    parameters = {name: str(value) for name, value in (run.get("parameters") or {}).items()}
    ended_s = _epoch_s(run["end_time"]) if run.get("end_time") else math.nan
    return FlowRun(str(run["id"]), str(state.get("type")), str(state.get("name")), str(state.get("message") or ""), parameters, ended_s)


def _epoch_s(iso: str) -> float:
    return datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp()
