"""An engine on a socket that fails in one chosen way: what a real engine does not do when a test asks for it."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["4 ", "+ ", "6 is ", "10"]


class _Engine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behaviour):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.asked = threading.Event()
        self.go_on = threading.Event()

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.set()
        behaviour, native = self.server.behaviour, self.path.startswith("/api/")
        if behaviour in ("hang", "slow"):
            self.server.go_on.wait(20)
        if behaviour == "503":
            self._send(503, b'{"error": "no healthy upstream"}')
        elif behaviour == "close":
            self.close_connection = True
        elif behaviour == "garbage":
            self._send(200, b"<html>hello</html>")
        elif body.get("stream", native):
            self._stream(behaviour, native)
        else:
            self._whole(behaviour, native)

    def _whole(self, behaviour, native):
        text = "" if behaviour == "empty" else "".join(WORDS)
        body = json.dumps(_native(text, done=True) if native else _completion(text)).encode()
        self._send(200, body[: len(body) // 2] if behaviour == "cut" else body, length=len(body))

    def _stream(self, behaviour, native):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson" if native else "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in [] if behaviour == "empty" else WORDS:
            self._chunk(_line(native, _native(word, done=False) if native else _delta(word)))
            if behaviour == "cut":
                self.close_connection = True
                return
            if behaviour == "error line":
                self._chunk(_line(native, {"error": "out of memory" if native else {"message": "out of memory"}}))
                break
        else:
            if behaviour != "unfinished":
                self._chunk(_line(native, _native("", done=True) if native else _delta("", finish="stop")))
                self._chunk(b"" if native else b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data):
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def _send(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = length not in (None, len(body))


def _native(text, *, done):
    message = {"role": "assistant", "content": text}
    return {
        "model": "lab",
        "created_at": "2026-01-01T00:00:00Z",
        "message": message,
        "done": done,
        **({"done_reason": "stop"} if done else {}),
    }


def _completion(text):
    message = {"role": "assistant", "content": text}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": "lab",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip


def _delta(text, finish=None):
    return {
        "id": "1", "object": "chat.completion.chunk", "created": 1, "model": "lab",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }  # fmt: skip


def _line(native, value):
    text = json.dumps(value)
    return f"{text}\n".encode() if native else f"data: {text}\n\n".encode()


@contextmanager
def faulty_engine(behaviour):
    """An engine that shows `behaviour` to every request; `go_on` releases those that wait."""
    engine = _Engine(behaviour)
    threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield engine
    finally:
        engine.go_on.set()
        engine.shutdown()
        engine.server_close()
