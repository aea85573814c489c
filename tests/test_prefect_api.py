"""Answers of a Prefect server that a later try would get again, and what a person reads of them."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from crossfade.errors import PermanentError, UserError
from crossfade.prefect_api import PrefectApi

Answering = Callable[[int, str], PrefectApi]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """An API whose server gives every request the same answer: a real one shows a wrong password only with a database of its own."""
    servers: list[ThreadingHTTPServer] = []

    def begin(status: int, body: str) -> PrefectApi:
        class Same(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Tests stay quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Same)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return PrefectApi(f"http://127.0.0.1:{server.server_port}/api")

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_deployment_that_is_not_there_is_named_with_the_way_out(answering: Answering) -> None:
    with pytest.raises(UserError, match=r"has no deployment 'migrate/migrate'. Run 'prefect deploy --all'"):
        answering(404, "{}").start("migrate/migrate", {})


def test_a_run_that_is_not_there_is_named(answering: Answering) -> None:
    with pytest.raises(UserError, match=r"has no /flow_runs/1234"):
        answering(404, "{}").flow_run("1234")


@pytest.mark.timeout(3)
@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_password_is_said_at_once(answering: Answering, status: int) -> None:
    with pytest.raises(UserError, match="PREFECT_API_AUTH_STRING is missing or wrong"):
        answering(status, json.dumps({"exception_message": "Unauthorized"})).start("migrate/migrate", {})


@pytest.mark.timeout(3)
def test_a_refusal_is_not_tried_again(answering: Answering) -> None:
    with pytest.raises(PermanentError, match="422 no such parameter"):
        answering(422, "no such parameter").start("migrate/migrate", {})


def test_a_web_page_in_the_place_of_the_api_is_recognised(answering: Answering) -> None:
    with pytest.raises(UserError, match="PREFECT_API_URL must end in /api"):
        answering(200, "<html>").start("migrate/migrate", {})
