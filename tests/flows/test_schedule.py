"""A server that starts is not a server that schedules: some dependency sets start one that never inserts a run."""

import time

import httpx
import pytest

from crossfade.lab.stack import Lab
from crossfade.prefect_api import ENGINE, PrefectApi

pytestmark = pytest.mark.slow


def asked(client: httpx.Client, path: str, body: object) -> httpx.Response:
    """The answer to a POST; SQLite under several workers is 503 now and then."""
    for _ in range(10):
        answer = client.post(path, json=body)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(1)
    assert answer.is_success, answer.text
    return answer


def test_a_scheduled_run_is_created_taken_by_a_worker_and_completed(lab: Lab) -> None:
    with httpx.Client(base_url=lab.prefect_api, timeout=20) as client:
        found = client.get("/deployments/name/reconcile/reconcile").json()
        made = asked(client, f"/deployments/{found['id']}/schedules", [{"schedule": {"interval": 20}, "active": True}])
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
    with httpx.Client(base_url=lab.prefect_api, timeout=90) as client:
        asked(client, "/work_pools/", {"name": hosts["docker"], "type": "docker"})
        flow_id = asked(client, "/flows/", {"name": "model"}).json()["id"]
        for kind, pool in hosts.items():
            variables = {"env": {"OF": kind}}
            asked(client, "/deployments/", {"name": kind, "flow_id": flow_id, "work_pool_name": pool, "job_variables": variables})
            api.schedule(f"ramp/of-{kind}", like=f"model/{kind}", entrypoint="flows/ramp.py:ramp", every_s=60, parameters={}, active=False)
            ramp = client.get(f"/deployments/name/ramp/of-{kind}").json()
            assert ramp["work_pool_name"] == pool
            assert ramp["job_variables"] == {"env": {"OF": kind}} | ({"command": ENGINE} if kind == "process" else {})
        for pool in ("crossfade", "gpu"):
            variables = client.get(f"/work_pools/{pool}").json()["base_job_template"]["variables"]["properties"]
            assert variables["command"]["default"] == ENGINE, pool
