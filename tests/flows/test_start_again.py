"""A start that fails for a cause that passes, and one that a setting mends: neither needs a person.

Only a GPU shows these, so the environment here is a shell script in vLLM's place: it prints real help, dies as it is told, then serves.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flow_stand import until

from crossfade.home import CHECKOUT
from crossfade.lab.stack import Lab
from crossfade.rollout.names import route_name
from crossfade.weights import WeightsManifest, hash_files, seal

pytestmark = pytest.mark.slow

HELP = CHECKOUT / "tests" / "vllm" / "help" / "vllm-0.32-cpu.txt"
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"choices": [{"message": {"content": "10"}, "finish_reason": "stop"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Killed in its first start; without bfloat16 in the second; serves in the third."""
    folder = tmp_path / "environments" / "vllm"
    (folder / "bin").mkdir(parents=True)
    stamp = Path(os.environ["CROSSFADE_ENVIRONMENTS"]) / "vllm" / "crossfade-environment.json"
    shutil.copy(stamp, folder)
    (folder / "server.py").write_text(SERVER)
    python = folder / "bin" / "python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in *--help=all*) cat {HELP}; exit 0;; esac
echo "$*" >> {tmp_path}/starts
[ $(wc -l < {tmp_path}/starts) = 1 ] && kill -9 $$
case "$*" in *"--dtype float16"*) exec {sys.executable} {folder}/server.py "$@";; esac
echo "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."
exit 1
"""
    )
    python.chmod(0o755)
    monkeypatch.setenv("CROSSFADE_ENVIRONMENTS", str(folder.parent))
    return tmp_path / "starts"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """The lab's weights, as a download leaves them."""
    weights = tmp_path / "weights"
    shutil.copytree(CHECKOUT / "deployments" / "lab-model", weights)
    files = hash_files(weights, ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
    (weights / "train.py").unlink()
    seal(weights, WeightsManifest(repo="crossfade/lab-model", commit="c" * 40, made_by="test", files=files))
    return weights


@pytest.mark.usefixtures("stopped_target")
def test_a_run_killed_while_vllm_loads_is_followed_by_one_that_waits_for_the_same_vllm(
    lab: Lab, plan_text: str, environments: Path, tmp_path: Path, sealed: Path
) -> None:
    """kill -9 of the run that starts it; the server has not opened its port and goes on loading until the second run waits for it."""
    from flows.serve import serve

    python = environments.parent / "environments" / "vllm" / "bin" / "python"
    serves = f"{sys.executable} {python.parent.parent}/server.py"
    python.write_text(
        f"""#!/bin/sh
case "$*" in *--help=all*) cat {HELP}; exit 0;; esac
echo $$ >> {environments}
echo loading
while [ ! -e {tmp_path}/loaded ]; do sleep 0.1; done
exec {serves} "$@"
"""
    )
    code = "import sys; from flows.serve import serve; serve(*sys.argv[1:], return_state=True)"
    asked = (plan_text, "demo/lab-latest", str(sealed))
    environment = lab.environment() | {"CROSSFADE_ENVIRONMENTS": os.environ["CROSSFADE_ENVIRONMENTS"]}
    run = subprocess.Popen([sys.executable, "-c", code, *asked], env=environment, cwd=CHECKOUT)
    until("vLLM to load", 90, lambda: environments.exists() or run.poll() is not None)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    (tmp_path / "loaded").touch()
    state = serve(*asked, return_state=True)
    assert state.is_completed(), state.message
    [only] = environments.read_text().split()
    assert f"adopted as process {only}," in state.message


@pytest.mark.usefixtures("stopped_target")
def test_a_killed_start_is_repeated_and_a_gpu_without_bfloat16_gets_float16(
    lab: Lab, plan_text: str, environments: Path, sealed: Path
) -> None:
    from tasks.start_target import start_target

    how = start_target(plan_text, "demo/lab-latest", str(sealed))
    starts = environments.read_text().splitlines()
    assert len(starts) == 3
    assert ["--dtype bfloat16" in start for start in starts] == [True, True, False]
    assert "started" in how
    assert "with dtype float16, because this GPU has no bfloat16" in how
    record = json.loads((lab.home.processes / f"target-{route_name('demo/lab-latest')}.json").read_text())
    assert Path(record["log"]).exists()


def test_a_worker_on_another_machine_starts_nothing_and_says_what_to_do(plan_text: str, environments: Path, sealed: Path) -> None:
    from flows.serve import serve

    state = serve(plan_text, "demo/lab-latest", str(sealed), host="the-routers-machine", return_state=True)
    assert state.is_failed()
    assert "must listen on the-routers-machine" in str(state.message)
    assert "nothing was started" in str(state.message)
    assert not environments.exists()
