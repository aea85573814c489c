"""Ctrl-C while a command runs: what is said, and exit code 130."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

PLAN = """name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: "lab:latest", huggingface: a/b}]
parity: {skip: "a test of Ctrl-C"}
"""


class NeverEnding(BaseHTTPRequestHandler):
    """A Prefect whose flow run goes on for ever."""

    asked = Event()

    def do_GET(self) -> None:
        if "/flow_runs/" in self.path:
            self.asked.set()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"id": "1234", "state": {"type": "RUNNING", "name": "Running"}}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Tests stay quiet."""


@pytest.fixture
def prefect() -> Iterator[str]:
    NeverEnding.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), NeverEnding)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_watch_says_that_the_migration_goes_on(prefect: str, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    environment = {**os.environ, "CROSSFADE_HOME": str(tmp_path / "home"), "PREFECT_API_URL": prefect, "COLUMNS": "100"}
    command = [sys.executable, "-m", "crossfade.cli", "migrate", "plan.yaml"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as migrate:
        try:
            assert NeverEnding.asked.wait(60)
            migrate.send_signal(number)
            said, errors = migrate.communicate(timeout=20)
        finally:
            migrate.kill()
    assert migrate.returncode == 130
    assert "chat/lab-latest goes on" in said
    assert "crossfade rollback chat/lab-latest" in said
    assert errors.strip().endswith("interrupted.")
    assert "Traceback" not in errors
