"""The hub's token out of a Prefect block, and a target that answers one request at a time but not several."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.blocks.system import Secret

from crossfade.errors import CrossfadeError
from crossfade.home import CHECKOUT
from crossfade.judge.baseline import Baseline
from crossfade.lab.hub_content import Faults, LabRepository
from crossfade.lab.stack import Lab
from crossfade.ramp.logbook import Because
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_routes")]

PLANNED = "workload: {load: {prompt_tokens: 10, output_tokens: 60, at_once: 2}}"
TOKEN = "hf_out_of_a_block"


@pytest.fixture
def begin(plan_text: str) -> Callable[..., Attempt]:
    from tasks.begin import begin as begin_task

    def with_changes(name: str, *changes: tuple[str, str]) -> Attempt:
        text = plan_text.replace("name: demo", f"name: {name}")
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        return begin_task(text)

    return with_changes


@pytest.fixture
def gated_hub(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from crossfade.lab.hub_server import LabHub, running

    faults = Faults(gated=True, licence_token=TOKEN)
    with running(LabHub((LabRepository("crossfade/lab-model", CHECKOUT / "deployments" / "lab-model", faults),))) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield


@pytest.mark.usefixtures("gated_hub")
def test_a_gated_model_is_fetched_with_the_token_of_a_block_and_the_token_is_shown_nowhere(
    begin: Callable[..., Attempt], tmp_path: Path, artifacts: Callable[[str], str]
) -> None:
    from tasks.assess import assess
    from tasks.download import download

    with_block = f"baseline: 3s\nhub_token: crossfade-hub\nstore: {tmp_path}"
    attempt = begin("token", ("baseline: 3s", with_block))
    with pytest.raises(CrossfadeError, match="no Prefect block secret/crossfade-hub"):
        assess(attempt)
    Secret(value=TOKEN).save("crossfade-hub", overwrite=True)  # type: ignore[unused-coroutine]
    assess(attempt)
    bench = open_bench(attempt.migration)
    bench.desk.move(bench.state().model_copy(update={"phase": Phase.OBSERVING}), "note", "set by a test", Because(why="test"))
    download(attempt)
    entries = " ".join(entry.body for entry in bench.desk.journal.entries(attempt.migration))
    assert TOKEN not in entries + artifacts(f"{route_name(attempt.migration)}-download".replace(".", "-"))


class OneAtATime(http.server.BaseHTTPRequestHandler):
    """Answers a completion when it is the only one, and fails as a vLLM whose engine died otherwise."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        alone = self.server.turn.acquire(blocking=False)  # type: ignore[attr-defined]
        threading.Event().wait(0.05)  # what an answer costs
        if alone:
            self.server.turn.release()  # type: ignore[attr-defined]
        self.answer(200 if alone else 500, b'{"choices": [{"message": {"content": "10"}, "finish_reason": "stop"}]}')

    def do_GET(self) -> None:
        self.answer(200, b"vllm:num_requests_running 0\n")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def test_load_stops_at_a_target_that_fails_only_when_asked_several_things_at_once(
    lab: Lab, begin: Callable[..., Attempt], artifacts: Callable[[str], str]
) -> None:
    from tasks.load import prove_load

    server = http.server.ThreadingHTTPServer(("127.0.0.1", lab.ports.target), OneAtATime)
    server.turn = threading.Lock()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        attempt = begin("several", ("load_step: {hold: 4s, max_tokens: 64}", f"load_step: {{hold: 1s}}\n{PLANNED}"))
        bench = open_bench(attempt.migration)
        bench.desk.move(bench.state().model_copy(update={"phase": Phase.SERVING}), "outcome", "observe", Baseline.none())
        with pytest.raises(CrossfadeError, match=r"under 3 requests at once: .* requests failed .*500.* No user was moved"):
            prove_load(attempt)
    finally:
        server.shutdown()
        server.server_close()
    told = artifacts(f"{route_name(attempt.migration)}-load".replace(".", "-"))
    assert "requests failed" in told
    assert "3: 2 requests at once, planned, times 1.3" in told
    assert open_bench(attempt.migration).state().phase is Phase.SERVING
