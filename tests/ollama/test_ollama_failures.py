"""Servers that fail as a real Ollama cannot be made to: each a server on a socket."""

import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from crossfade.errors import PermanentError, Unreachable, UserError
from crossfade.ollama.client import OllamaSource


@contextmanager
def answering(status, body):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield OllamaSource(f"http://127.0.0.1:{server.server_port}", timeout_s=5)
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


METHODS = {
    "version": lambda source: source.version(),
    "inventory": lambda source: source.inventory(),
    "describe": lambda source: source.describe("tiny"),
    "loaded": lambda source: source.loaded(),
    "facts": lambda source: source.facts("tiny"),
    "keep_warm": lambda source: source.keep_warm("tiny"),
    "complete": lambda source: source.complete("tiny", "x", max_tokens=1),
}
every_method = pytest.mark.parametrize("call", METHODS.values(), ids=METHODS)


@every_method
def test_nobody_listening_is_unreachable_and_names_the_address(call):
    with silent() as url:
        pass
    with pytest.raises(Unreachable, match=url):
        call(OllamaSource(url, timeout_s=5))


@every_method
def test_a_silent_server_is_unreachable_after_the_timeout(call):
    with silent() as url, pytest.raises(Unreachable, match=r"within 0\.2 s"):
        call(OllamaSource(url, timeout_s=0.2))


@every_method
def test_a_server_error_is_unreachable_and_quotes_it(call):
    with answering(503, b'{"error":"server busy, please try again."}') as source, pytest.raises(Unreachable, match="server busy"):
        call(source)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"[]", b'{"models": 3}', b""])
@pytest.mark.parametrize("method", ["version", "inventory", "loaded", "complete"])
def test_another_kind_of_server_is_named_as_such(method, body):
    with answering(200, body) as source, pytest.raises(PermanentError, match="did not answer as Ollama does"):
        METHODS[method](source)


def test_a_refusal_of_an_openai_endpoint_is_quoted(stand_in):
    with OllamaSource(stand_in.url, timeout_s=30) as source, pytest.raises(PermanentError, match="exceeds the available context"):
        source.complete("tiny", "word " * 3000, max_tokens=1)


def test_a_host_header_the_source_does_not_take_is_explained():
    with answering(403, b"") as source, pytest.raises(PermanentError, match="local Host headers"):
        source.version()


@pytest.mark.parametrize("url", ["http://127.0.0.1:notaport", "ftp://127.0.0.1", "ollama:11434"])
def test_an_address_that_is_none_is_the_users_mistake(url):
    with pytest.raises(UserError, match=r"source\.url"):
        OllamaSource(url, timeout_s=1)
