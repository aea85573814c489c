"""A server that starts is not a server that schedules: some dependency sets start one that never inserts a run."""

import time

import httpx
import pytest

from crossfade.lab.stack import Lab

pytestmark = pytest.mark.slow


def test_a_scheduled_run_is_created_taken_by_a_worker_and_completed(lab: Lab) -> None:
    with httpx.Client(base_url=lab.prefect_api, timeout=20) as client:
        found = client.get("/deployments/name/reconcile/reconcile").json()
        made = client.post(f"/deployments/{found['id']}/schedules", json=[{"schedule": {"interval": 20}, "active": True}])
        for _ in range(10):  # SQLite under several workers answers 503 now and then
            if made.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
            made = client.post(f"/deployments/{found['id']}/schedules", json=[{"schedule": {"interval": 20}, "active": True}])
        assert made.is_success, made.text
        try:
            give_up_s, completed = time.monotonic() + 120, []
            wanted = {"deployments": {"id": {"any_": [found["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
            while not completed and time.monotonic() < give_up_s:
                completed = [run for run in client.post("/flow_runs/filter", json=wanted).json() if run["auto_scheduled"]]
                time.sleep(0.5)
            assert completed, client.post("/flow_runs/count", json={"deployments": {"id": {"any_": [found["id"]]}}}).text
        finally:
            client.delete(f"/deployments/{found['id']}/schedules/{made.json()[0]['id']}")
