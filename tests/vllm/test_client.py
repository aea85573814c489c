"""The client against a server that misbehaves in ways a healthy vLLM cannot be made to show."""

import http.server
import socket
import threading
from contextlib import closing

import pytest

from crossfade.errors import EngineDied, EngineWarming, GateFailed, PermanentError, Unreachable
from crossfade.vllm.client import VllmTarget

CHAT = '{"choices": [{"message": {"content": "10"}, "finish_reason": "stop"}]}'


@pytest.fixture
def serve():
    """Start a server that gives every request the same answer; returns a client of it."""
    servers, clients = [], []

    def start(status, body, timeout_s=5.0):
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = answer  # noqa: N815 - the names http.server looks for

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        clients.append(VllmTarget(f"http://127.0.0.1:{server.server_port}", timeout_s=timeout_s))
        return clients[-1]

    yield start
    for one in clients:
        one.close()
    for one in servers:
        one.shutdown()
        one.server_close()


def test_an_answer_is_text_and_why_it_ended(serve):
    answer = serve(200, CHAT).complete("lab", "What is 4+6?", max_tokens=8)
    assert (answer.text, answer.finish) == ("10", "stop")


def test_content_that_a_reasoning_parser_swallowed_is_empty_text(serve):
    assert (
        serve(200, '{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}').complete("m", "p", max_tokens=1).text == ""
    )


def test_nothing_listening_is_an_engine_that_may_still_come():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with closing(VllmTarget(f"http://127.0.0.1:{port}", timeout_s=2)) as client, pytest.raises(EngineWarming, match=str(port)):
        client.models()


def test_a_server_that_accepts_and_says_nothing_is_unreachable_in_time():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = VllmTarget(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        with closing(client), pytest.raises(Unreachable, match=r"/v1/chat/completions within 0\.3 s"):
            client.complete("m", "p", max_tokens=1)


def test_a_server_that_says_it_is_not_ready_is_asked_again(serve):
    with pytest.raises(EngineWarming):
        serve(503, "loading").models()


def test_a_failure_inside_is_a_dead_engine(serve):
    with pytest.raises(EngineDied, match=r"500: EngineDeadError"):
        serve(500, "EngineDeadError").complete("m", "p", max_tokens=1)


def test_a_refusal_with_a_known_cause_says_what_to_do(serve):
    with pytest.raises(PermanentError, match=r"chat_template\.jinja"):
        serve(400, "As of transformers v4.44, default chat template is no longer allowed").complete("m", "p", max_tokens=1)


def test_another_program_on_the_port_is_told_apart(serve):
    with pytest.raises(PermanentError, match="does not answer like vLLM"):
        serve(200, "<html>hello</html>").complete("m", "p", max_tokens=1)


def test_missing_metrics_are_listed_and_present_ones_are_not(serve):
    client = serve(200, '# HELP x\n# TYPE a:b counter\na:b{l="1"} 1.0\nplain 2\n')
    assert client.metric_names() == {"a:b", "plain"}
    with pytest.raises(GateFailed, match="does not export gone,"):
        client.check_metric_names(["a:b", "gone", "plain"])


def test_a_proxy_of_the_environment_is_not_asked(serve, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert serve(200, CHAT).complete("m", "p", max_tokens=1).text == "10"
