"""Ticks that hang, on a real Prefect server: the schedule's limit of 1 must come free again."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import httpx
import pytest
from guard_stand import eventually, free_port

from crossfade.errors import Unreachable
from crossfade.guard.__main__ import guard_of
from crossfade.guard.prefect_http import PrefectHttp
from crossfade.guard.reaper import RAMP_FLOW, SWEEP_FLOW, Reaper
from crossfade.home import Home
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

pytestmark = pytest.mark.slow


class Deployment:
    """A deployment with a limit of one run, as Prefect knows it; runs are put into states the way workers do."""

    def __init__(self, api: str, flow: str, migration: str, *, interval_s: float) -> None:
        self._client = httpx.Client(base_url=api, trust_env=False, timeout=30)
        flow_id = self._post("/flows/", {"name": flow})["id"]
        body = {
            "flow_id": flow_id,
            "name": f"{migration.replace('/', '.')}-{uuid.uuid4().hex[:6]}" if migration else flow,
            "parameters": {"migration": migration} if migration else {"within_s": 45},
            "schedules": [{"schedule": {"interval": interval_s}, "active": False, "slug": "tick"}],
            "concurrency_limit": 1,
            "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
        }
        self.id = self._post("/deployments/", body)["id"]

    def run(self) -> str:
        return str(self._post(f"/deployments/{self.id}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"])

    def put(self, run: str, state: str) -> str:
        """Ask for a state; returns the state the run is in then."""
        self._post(f"/flow_runs/{run}/set_state", {"state": {"type": state, "name": state.title()}})
        return self.state(run)

    def state(self, run: str) -> str:
        return str(self._client.get(f"/flow_runs/{run}").raise_for_status().json()["state_type"])

    def message(self, run: str) -> str:
        return str(self._client.get(f"/flow_runs/{run}").raise_for_status().json()["state"]["message"])

    def _post(self, path: str, body: object) -> dict[str, object]:
        reply: dict[str, object] = {}

        def posted() -> bool:  # SQLite under load answers 503 now and then
            answer = self._client.post(path, json=body)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            if answer.status_code == 503:
                return False
            reply.update(answer.raise_for_status().json())
            return True

        eventually(posted, within_s=60)
        return reply


@pytest.fixture
def api(prefect: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    return prefect


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_tick_whose_worker_died_with_it_makes_room_for_the_next(api: str, state: str) -> None:
    ramp = Deployment(api, RAMP_FLOW, "chat/stuck", interval_s=1)
    hung = ramp.run()
    assert ramp.put(hung, "PENDING") == "PENDING"
    assert ramp.put(hung, state) == state
    assert ramp.put(ramp.run(), "PENDING") == "CANCELLED", "the limit of one is not in force, so this test proves nothing"
    reaper = Reaper(PrefectHttp(), shortest_s=2)

    def reap() -> None:
        reaper.reap(mine=lambda name: name == "chat/stuck", now_s=time.time())

    eventually(lambda: ramp.state(hung) == "CRASHED", within_s=60, each=reap)
    assert f"sat in {state}" in ramp.message(hung)
    assert ramp.put(ramp.run(), "PENDING") == "PENDING"


def test_nothing_else_is_touched(api: str) -> None:
    slow_ramp = Deployment(api, RAMP_FLOW, "chat/slow", interval_s=3600)
    foreign = Deployment(api, RAMP_FLOW, "other/home", interval_s=1)
    migrate = Deployment(api, "migrate", "chat/slow", interval_s=1)
    due = Deployment(api, RAMP_FLOW, "chat/due", interval_s=1)
    of_all = Deployment(api, SWEEP_FLOW, "", interval_s=1)
    running = {one: one.run() for one in (slow_ramp, foreign, migrate, due, of_all)}
    for one, run in running.items():
        one.put(run, "PENDING")
        one.put(run, "RUNNING")
    waiting = slow_ramp.run()
    reaped = []

    def reap() -> None:
        reaped.extend(Reaper(PrefectHttp(), shortest_s=2).reap(mine=lambda name: name.startswith("chat/"), now_s=time.time()))

    eventually(lambda: {due.state(running[due]), of_all.state(running[of_all])} == {"CRASHED"}, within_s=60, each=reap)
    assert [one.run for one in reaped if not one.migration] == [running[of_all]]
    assert [one.run for one in reaped if one.migration == "chat/due"] == [running[due]]
    assert [one.state(running[one]) for one in (slow_ramp, foreign, migrate)] == ["RUNNING"] * 3
    assert slow_ramp.state(waiting) == "SCHEDULED"


def test_a_hanging_sweep_is_freed_however_many_ramps_there_are(api: str) -> None:
    """Prefect names 200 at a time, and all of these come before the sweep's."""
    client = httpx.Client(base_url=api, trust_env=False, timeout=30)
    of_all = Deployment(api, SWEEP_FLOW, "", interval_s=1)
    first = Deployment(api, RAMP_FLOW, "many/0", interval_s=1)
    flow_id = client.get(f"/deployments/{first.id}").raise_for_status().json()["flow_id"]
    for number in range(1, 200):
        body = {"flow_id": flow_id, "name": f"many.{number}", "parameters": {"migration": f"many/{number}"}}
        eventually(lambda body=body: client.post("/deployments/", json=body).is_success, within_s=60)
    hung = of_all.run()
    of_all.put(hung, "PENDING")

    def reap() -> None:
        Reaper(PrefectHttp(), shortest_s=2).reap(mine=lambda name: name.startswith("many/"), now_s=time.time())

    eventually(lambda: of_all.state(hung) == "CRASHED", within_s=30, each=reap)


def test_the_clerk_notes_it_in_the_journal(api: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    journal = _journal(home, "chat/noted")
    ramp = Deployment(api, RAMP_FLOW, "chat/noted", interval_s=1)
    hung = ramp.run()
    ramp.put(hung, "PENDING")
    guard = guard_of(home, reap_after_s=2, reap_every_s=0)
    eventually(lambda: ramp.state(hung) == "CRASHED", within_s=60, each=guard.clerk.work_once)
    guard.clerk.work_once()
    [note] = [entry for entry in journal.entries("chat/noted") if entry.kind == "note"]
    assert (note.subject, hung in note.body) == ("reaped", True)
    assert b"crossfade_guard_reaped_runs_total 1.0" in guard.vitals.text()


@pytest.mark.parametrize("url", ["", "down", "not prefect"])
def test_without_prefect_nothing_is_reaped_and_it_is_said_once(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    caplog.set_level("INFO", logger="crossfade.guard")
    monkeypatch.setenv("PREFECT_API_URL", {"down": f"http://127.0.0.1:{free_port()}/api"}.get(url, ""))
    if url == "not prefect":
        monkeypatch.setenv("PREFECT_API_URL", request.getfixturevalue("prefect").removesuffix("/api") + "/nothing")
    with pytest.raises(Unreachable):
        Reaper(PrefectHttp()).reap(mine=lambda _: True, now_s=time.time())
    home = Home(tmp_path / "home")
    _journal(home, "chat/lab")
    guard = guard_of(home, reap_every_s=0)
    for _ in range(3):
        guard.clerk.work_once()
    assert [record.message.split()[0] for record in caplog.records] == ["cannot_tell"]


def _journal(home: Home, migration: str) -> SqlJournal:
    journal = SqlJournal(home.journal)
    name, model = migration.split("/")
    text = f"name: {name}\nsource: {{url: 'http://127.0.0.1:1'}}\nmodels: [{{ollama: '{model}', huggingface: lab/model}}]\n"
    journal.begin(MigrationState(name=migration, plan_digest="d" * 64, phase_since_s=time.time(), share_since_s=time.time()), text)
    return journal
