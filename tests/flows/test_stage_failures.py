"""Each stage with its real dependency broken: it stops before any traffic moves, and its artifact names the cause."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfade import processes
from crossfade.errors import CrossfadeError
from crossfade.home import CHECKOUT
from crossfade.lab.hub_content import Faults, LabRepository
from crossfade.lab.stack import Lab
from crossfade.plan import load_plan
from crossfade.ramp.logbook import Because
from crossfade.ramp.rollback import roll_back
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import ModelRoute
from crossfade.rollout.state import Attempt
from crossfade.store.journal import SqlJournal
from crossfade.weights import folder_for
from crossfade.wiring import open_bench

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_routes")]

Begin = Callable[..., Attempt]
Artifact = Callable[[Attempt, str], str]


@pytest.fixture
def begin(lab: Lab, plan_text: str, tmp_path: Path, request: pytest.FixtureRequest) -> Begin:
    """Begin a migration of its own name with a changed plan; returns the attempt."""
    from tasks.begin import begin as begin_task

    name = "f" + str(abs(hash(request.node.name)) % 10**8)

    def with_changes(*changes: tuple[str, str]) -> Attempt:
        text = plan_text.replace("name: demo", f"name: {name}")
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        load_plan(str(path))
        return begin_task(str(path))

    return with_changes


def at_phase(attempt: Attempt, phase: Phase) -> None:
    """Put a migration where a test needs it, its route at share 0, as if the stages before had run."""
    bench = open_bench(attempt.migration)
    state = bench.state()
    router, name = bench.desk.router, route_name(attempt.migration)
    if all(route.name != name for route in router.table().routes):
        router.apply(ModelRoute(name=name, models=(f"{name}-model",)), expect=router.table().generation)
    bench.desk.move(state.model_copy(update={"phase": phase}), "note", "set by a test", Because(why="test"))


def refused(task: Callable[[Attempt], object], attempt: Attempt) -> str:
    """The message a stage fails with."""
    with pytest.raises(CrossfadeError) as caught:
        task(attempt)
    return str(caught.value)


@pytest.fixture
def artifact(artifacts: Callable[[str], str]) -> Artifact:
    return lambda attempt, stage: artifacts(f"{route_name(attempt.migration)}-{stage}".replace(".", "-").replace("_", "-").lower())


def test_assess_stops_at_a_repository_the_hub_does_not_have(begin: Begin, artifact: Artifact) -> None:
    from tasks.assess import assess

    migration = begin(("crossfade/lab-model", "crossfade/no-such-model"))
    assert "crossfade/no-such-model" in refused(assess, migration)
    assert "crossfade/no-such-model" in artifact(migration, "assess")


def test_assess_stops_at_a_model_the_source_does_not_know_and_names_those_it_has(begin: Begin, artifact: Artifact) -> None:
    from tasks.assess import assess

    migration = begin(("ollama: lab:latest", "ollama: llama9:latest"))
    assert "llama9" in refused(assess, migration)
    assert "lab:latest" in artifact(migration, "assess")


def test_observe_stops_at_a_router_port_somebody_else_holds(
    lab: Lab,
    plan_text: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    artifact: Artifact,
) -> None:
    from tasks.begin import begin as begin_task
    from tasks.observe import observe

    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path_factory.mktemp("h")))  # a home whose router does not run yet
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        text = plan_text.replace("name: demo", "name: taken").replace(f"127.0.0.1:{lab.ports.router}", f"127.0.0.1:{port}")
        migration = begin_task(text)
        bench = open_bench(migration.migration)
        bench.desk.move(bench.state().model_copy(update={"phase": Phase.ASSESSED}), "note", "set by a test", Because(why="test"))
        assert str(port) in refused(observe, migration)
    assert str(port) in artifact(migration, "observe")


@pytest.fixture
def corrupting_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from crossfade.lab.hub_server import LabHub, running

    repository = LabRepository("crossfade/lab-model", CHECKOUT / "deployments" / "lab-model", Faults(corrupt="model.safetensors"))
    with running(LabHub((repository,))) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


def test_download_stops_at_a_file_that_arrives_broken(
    lab: Lab, begin: Begin, corrupting_hub: str, artifact: Artifact, tmp_path: Path
) -> None:
    from tasks.assess import assess
    from tasks.download import download

    migration = begin(("baseline: 3s", f"baseline: 3s\nstore: {tmp_path / 'store'}"))
    assess(migration)
    at_phase(migration, Phase.OBSERVING)
    assert "model.safetensors" in refused(download, migration)
    assert "model.safetensors" in artifact(migration, "download")


def downloaded(begin: Begin, store: Path, *changes: tuple[str, str]) -> Attempt:
    from tasks.assess import assess
    from tasks.download import download

    migration = begin(("baseline: 3s", f"baseline: 3s\nstore: {store}"), *changes)
    assess(migration)
    at_phase(migration, Phase.OBSERVING)
    download(migration)
    return migration


def test_quantize_stops_at_weights_that_were_damaged_on_disk(begin: Begin, artifact: Artifact, tmp_path: Path) -> None:
    from tasks.assess import Assessed
    from tasks.quantize import quantize

    migration = downloaded(begin, tmp_path / "store")
    bench = open_bench(migration.migration)
    commit = bench.desk.outcome(bench.state(), "assess", Assessed).commit
    weights = folder_for(bench.weights, "crossfade/lab-model", commit) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    assert "model.safetensors" in refused(quantize, migration)
    assert "model.safetensors" in artifact(migration, "quantize")


def test_serve_stops_with_a_diagnosis_when_vllm_dies_at_start(begin: Begin, artifact: Artifact, tmp_path: Path) -> None:
    from tasks.quantize import quantize
    from tasks.serve import serve

    changes = (("quantize: w8a8", "quantize: none"), ("max_model_len: 512", "max_model_len: 100000"))
    migration = downloaded(begin, tmp_path / "store", *changes)
    quantize(migration)
    message = refused(serve, migration)
    assert "max_model_len" in message
    assert "max_model_len" in artifact(migration, "serve")


def test_serve_stops_when_the_gate_before_deploy_does(begin: Begin, artifact: Artifact) -> None:
    from tasks import serve as module

    stricter = ("above: 0.5, before: [download, quantize, deploy,", "above: 7, before: [download, quantize, deploy,")
    migration = begin(stricter, ("patience: 5s", "patience: 1s"))
    at_phase(migration, Phase.QUANTIZED)
    assert "router_scraped" in refused(module.serve, migration)
    assert "router_scraped" in artifact(migration, "serve")


def test_parity_stops_when_its_prompts_cannot_be_read(lab: Lab, begin: Begin, artifact: Artifact, tmp_path: Path) -> None:
    from tasks.parity import prove_parity

    suite = str(CHECKOUT / "deployments" / "lab-model" / "eval.jsonl")
    prompts = tmp_path / "gone.jsonl"
    prompts.write_text('{"prompt": "What is 4+6?", "answer": "10"}\n')
    migration = begin((suite, str(prompts)), (", before: [parity, ramp, step, cutover, soak]", ", before: [ramp]"))
    prompts.unlink()
    at_phase(migration, Phase.SERVING)
    assert "gone.jsonl" in refused(prove_parity, migration)
    assert "gone.jsonl" in artifact(migration, "parity")


def test_a_source_that_went_away_is_named_after_the_retries_are_used_up(begin: Begin, artifact: Artifact) -> None:
    from tasks.assess import assess

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{closed.getsockname()[1]}"
        ports = Lab(Path(os.environ["CROSSFADE_LAB"])).ports
        migration = begin((f"http://127.0.0.1:{ports.source}", f"http://{gone}"))
        assert gone in refused(assess, migration)
    assert gone in artifact(migration, "assess")


def test_a_run_of_an_attempt_that_is_over_does_nothing_more(begin: Begin) -> None:
    from tasks.quantize import quantize

    migration = begin()
    roll_back(open_bench(migration.migration).desk, migration.migration, why="a person", by="test")
    assert "is over" in refused(quantize, migration)


def test_rehearse_stops_when_no_guard_watches(lab: Lab, begin: Begin, artifact: Artifact) -> None:
    from tasks.rehearse import rehearse

    guard = processes.find("guard", lab.home.processes)
    assert guard
    processes.stop(guard, deadline_s=5)
    try:
        (lab.home.root / "guard.json").unlink(missing_ok=True)
        migration = begin()
        at_phase(migration, Phase.PROVEN)
        assert "crossfade guard" in refused(rehearse, migration)
        assert "guard" in artifact(migration, "rehearse")
    finally:
        lab.module("guard", "crossfade.guard")


def test_a_tick_holds_and_says_so_when_prometheus_is_gone(begin: Begin, artifact: Artifact) -> None:
    from tasks.ramp import tick

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f'prometheus: {{url: "http://127.0.0.1:{closed.getsockname()[1]}"'
        prometheus = f'prometheus: {{url: "http://127.0.0.1:{Lab(Path(os.environ["CROSSFADE_LAB"])).ports.prometheus}"'
        migration = begin((prometheus, nobody))
        at_phase(migration, Phase.REHEARSED)
        assert tick(migration).did == "held"
    assert "router_scraped" in artifact(migration, "tick")
    assert open_bench(migration.migration).desk.router.observed().route(route_name(migration.migration)).share_bp == 0


def test_cutover_stops_when_the_router_shows_another_share(begin: Begin, artifact: Artifact) -> None:
    from tasks.cutover import cut_over

    migration = begin()
    at_phase(migration, Phase.CUT_OVER)
    assert "0 % on the target, not 100 %" in refused(cut_over, migration)
    assert "0 % on the target, not 100 %" in artifact(migration, "cutover")


def test_a_failed_stage_ends_the_migration_as_failed_and_a_new_attempt_may_begin(begin: Begin, journal: SqlJournal) -> None:
    from flows.migrate import migrate

    migration = begin(("crossfade/lab-model", "crossfade/no-such-model"))
    bench = open_bench(migration.migration)
    from crossfade.plan.show import show_plan

    state = migrate(show_plan(bench.plan), return_state=True)
    assert state.is_failed()
    assert "No user was moved" in (state.message or "")
    assert journal.state(migration.migration).phase is Phase.FAILED
    assert begin(("crossfade/lab-model", "crossfade/no-such-model")) == Attempt(migration.migration, 2)
