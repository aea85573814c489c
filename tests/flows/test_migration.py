"""The whole thing, as a user starts it from Prefect's form, with official clients talking through the router all the time."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from flow_stand import Stand, engines_of, until

from crossfade import processes
from crossfade.lab.client_report import ClientReport, load_report
from crossfade.lab.demo import start_clients
from crossfade.lab.prefect_server import deploy_all
from crossfade.lab.stack import Lab
from crossfade.prefect_api import FlowRun, PrefectApi
from crossfade.ramp.rejudge import rejudge
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.phases import Phase, reached
from crossfade.store.journal import SqlJournal
from crossfade.wiring import open_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UNTOUCHED = ("id", "schedules", "paused", "parameters", "concurrency_limit", "work_queue_name")
STAGES = ("plan", "assess", "observe", "download", "quantize", "serve", "parity", "rehearse", "tick", "cutover", "report")


@pytest.fixture
def prefect(lab: Lab) -> PrefectApi:
    return PrefectApi(lab.prefect_api)


@pytest.fixture
def clients(lab: Lab) -> Iterator[Callable[[], ClientReport]]:
    """The load; the value stops it and returns what it saw."""
    program = start_clients(lab)

    def finish() -> ClientReport:
        processes.stop(program, deadline_s=25)
        return load_report(lab.folder / "clients.json")

    try:
        yield finish
    finally:
        processes.stop(program, deadline_s=5)


def ended(prefect: PrefectApi, run_id: str) -> FlowRun:
    until("the migrate run to end", 330, lambda: prefect.flow_run(run_id).ended)
    return prefect.flow_run(run_id)


def gpu_runs(lab: Lab) -> list[tuple[str, str, str]]:
    """Name, pool and idempotency key of every run that was handed over."""
    reply = httpx.post(f"{lab.prefect_api}/flow_runs/filter", json={"flows": {"name": {"any_": ["quantize", "serve"]}}}, timeout=20).json()
    return [(run["name"], run["work_pool_name"], run["idempotency_key"] or "") for run in reply]


@pytest.mark.usefixtures("clean_routes", "stopped_target")
def test_a_pasted_plan_goes_from_the_form_to_a_finished_soak_and_no_request_fails(
    lab: Lab,
    prefect: PrefectApi,
    journal: SqlJournal,
    plan_text: str,
    clients: Callable[[], ClientReport],
    artifacts: Callable[[str], str],
) -> None:
    text = plan_text.replace("name: demo", "name: whole").replace("every: 5s", "approve_before: [100%], every: 15s")
    run = ended(prefect, prefect.start("migrate/migrate", {"plan": text}))
    assert run.state == "COMPLETED", run.message
    before, swept = deployment(lab, "ramp/whole.lab-latest"), scheduled_by_a_person(lab, "sweep/sweep")
    deploy_all(lab)  # what a user may do at any time
    after = deployment(lab, "ramp/whole.lab-latest")
    assert {field: after[field] for field in UNTOUCHED} == {field: before[field] for field in UNTOUCHED}
    assert deployment(lab, "sweep/sweep")["schedules"] == swept
    until("the question", 240, lambda: journal.state("whole/lab-latest").asked_bp == 10_000 or journal.state("whole/lab-latest").ended)
    answer = {"migration": "whole/lab-latest", "why": "the graphs look right", "answer": "approve"}
    assert ended(prefect, prefect.start("approve/approve", answer)).state == "COMPLETED"
    until("the scheduled ramp to end", 240, lambda: journal.state("whole/lab-latest").ended)
    seen = clients()
    state = journal.state("whole/lab-latest")
    assert (state.phase, state.share_bp) == (Phase.FINISHED, 10_000), state.because
    until("the schedule to be paused", 30, lambda: bool(deployment(lab, "ramp/whole.lab-latest")["paused"]))
    assert rejudge(journal.entries("whole/lab-latest")) == []
    assert seen.failed == 0, [str(failure) for failure in seen.failures]
    assert seen.requests > 200
    for stage in STAGES:
        assert artifacts(f"whole-lab-latest-{stage}"), stage
    shares = [entry.body for entry in journal.entries("whole/lab-latest") if (entry.kind, entry.subject) == ("outcome", "share")]
    assert len(shares) == 3
    handed_over = [run for run in gpu_runs(lab) if "whole/lab-latest" in run[2]]
    assert sorted(pool for _, pool, _ in handed_over) == ["gpu", "gpu"]
    assert all(key.startswith("whole/lab-latest/1/") for _, _, key in handed_over)


@pytest.mark.usefixtures("clean_routes", "stopped_target")
def test_a_target_that_turns_bad_is_rolled_back_by_the_guard_and_the_event_starts_the_rollback_run(
    lab: Lab, prefect: PrefectApi, journal: SqlJournal, plan_text: str, clients: Callable[[], ClientReport], artifacts: Callable[[str], str]
) -> None:
    began_s = time.time()

    def rollbacks() -> list[FlowRun]:  # not those of other tests in the same lab
        return [run for run in prefect.runs_of("rollback") if run.parameters.get("migration") == "breach/lab-latest"]

    run_id = prefect.start("migrate/migrate", {"plan": plan_text.replace("name: demo", "name: breach"), "inline": True})
    until("half of the traffic on the target", 240, lambda: _share(journal) >= 5_000 or prefect.flow_run(run_id).ended)
    faults = f"http://127.0.0.1:{lab.ports.fault_control}/faults"
    httpx.post(faults, json={"delay_ms": 100, "error_share": 0.8, "cut_share": 0.0}, timeout=5).raise_for_status()
    try:
        run = ended(prefect, run_id)
        until("a rollback run", 90, lambda: any(one.state == "COMPLETED" for one in rollbacks()))
    finally:
        httpx.post(faults, json={"delay_ms": 0, "error_share": 0.0, "cut_share": 0.0}, timeout=5).raise_for_status()
    assert run.state == "FAILED"
    assert "rolled back" in run.message
    state = journal.state("breach/lab-latest")
    assert (state.phase, state.share_bp) == (Phase.ROLLED_BACK, 0)
    started_by = {run.parameters["event_id"] for run in rollbacks()}

    def stored() -> set[str]:  # the server writes events down some seconds after it has acted on them
        return {event.id for event in prefect.events("crossfade.sla.breached", since_s=began_s)}

    until("the event that started a rollback run", 60, lambda: bool(started_by & stored()))
    assert "back on the source" in artifacts("breach-lab-latest-rollback")
    assert clients().failed == 0  # errors before the first byte were answered by the source; the gates saw them all the same


@pytest.mark.usefixtures("clean_routes", "stopped_target")
def test_a_killed_parent_is_retried_as_the_same_run_goes_on_and_hands_nothing_over_twice(
    lab: Lab, prefect: PrefectApi, journal: SqlJournal, plan_text: str
) -> None:
    name, plan = "killed/lab-latest", plan_text.replace("name: demo", "name: killed")
    first = prefect.start("migrate/migrate", {"plan": plan, "inline": True})
    until("the target to be handed over", 120, lambda: any(f"{name}/1/serve" in key for _, _, key in gpu_runs(lab)))
    for process in engines_of(first):
        process.kill()
    until("Prefect to see the crash", 60, lambda: prefect.flow_run(first).ended)
    # the worker reports the dead process once more, a moment later: a run that was retried before would be set crashed by that
    until("the worker to be done with it", 60, lambda: bool(_left_by_its_worker(lab, first)))
    Stand(lab, plan).retry(first)
    until("the rehearsal", 200, lambda: reached(journal.state(name).phase, Phase.REHEARSED) or prefect.flow_run(first).ended)
    assert roll_back(open_bench(name).desk, name, why="enough seen", by="test").state.phase is Phase.ROLLED_BACK
    assert ended(prefect, first).state == "FAILED"  # a run whose migration was rolled back under it does not go on
    assert journal.state(name).attempt == 1
    assert sorted(key.split("/")[3] for _, _, key in gpu_runs(lab) if key.startswith(name)) == ["quantize", "serve"]


def _left_by_its_worker(lab: Lab, run_id: str) -> list[object]:
    """What the worker says when it has seen the end of the process of a run, and has reported it."""
    wanted = {"event": {"name": ["prefect.worker.executed-flow-run"]}, "related": {"id": [f"prefect.flow-run.{run_id}"]}}
    answer = httpx.post(f"{lab.prefect_api}/events/filter", json={"filter": wanted}, timeout=30).raise_for_status().json()
    return list(answer["events"])


def scheduled_by_a_person(lab: Lab, name: str) -> object:
    """A schedule that is there and off, as the UI makes it; returns all the deployment has then."""
    path = f"{lab.prefect_api}/deployments/{deployment(lab, name)['id']}/schedules"

    def there() -> bool:
        found = deployment(lab, name)["schedules"]
        if isinstance(found, list) and any(one["slug"] == "mine" for one in found):
            return True
        httpx.post(path, json=[{"schedule": {"interval": 60}, "active": False, "slug": "mine"}], timeout=90)  # 503 while SQLite is locked
        return False

    until("a person's schedule", 180, there)
    return deployment(lab, name)["schedules"]


def deployment(lab: Lab, name: str) -> dict[str, object]:
    """A deployment as Prefect's API shows it."""
    return dict(httpx.get(f"{lab.prefect_api}/deployments/name/{name}", timeout=20).json())


def _share(journal: SqlJournal) -> int:
    return max((state.share_bp for state in journal.states() if state.name == "breach/lab-latest"), default=0)
