"""A server that starts is not a server that schedules: some dependency sets start one that never inserts a run."""

import time

import httpx
import pytest

from crossfade.lab.stack import Lab
from crossfade.prefect_api import ENGINE, PrefectApi

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


def test_a_ramp_goes_where_its_model_goes_and_is_started_as_one_python(lab: Lab) -> None:
    api, hosts = PrefectApi(lab.prefect_api), {"process": "crossfade", "docker": "crossfade-docker"}
    with httpx.Client(base_url=lab.prefect_api, timeout=20) as client:
        client.post("/work_pools/", json={"name": hosts["docker"], "type": "docker"})
        for kind, pool in hosts.items():
            model = {"name": kind, "flow_id": client.post("/flows/", json={"name": "model"}).json()["id"], "work_pool_name": pool}
            made = client.post("/deployments/", json=model | {"job_variables": {"env": {"OF": kind}}})
            assert made.is_success, made.text
            api.schedule(f"ramp/of-{kind}", like=f"model/{kind}", entrypoint="flows/ramp.py:ramp", every_s=60, parameters={}, active=False)
            ramp = client.get(f"/deployments/name/ramp/of-{kind}").json()
            assert ramp["work_pool_name"] == pool
            assert ramp["job_variables"] == {"env": {"OF": kind}} | ({"command": ENGINE} if kind == "process" else {})
        for pool in ("crossfade", "gpu"):
            variables = client.get(f"/work_pools/{pool}").json()["base_job_template"]["variables"]["properties"]
            assert variables["command"]["default"] == ENGINE, pool
