"""The fault proxy as a process of its own, before a real ASGI server."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from crossfade import processes

EVENTS = 5


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(true: Callable[[], object], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.02)


@dataclass
class Engine:
    """An engine that echoes, streams and remembers who hung up."""

    port: int = field(default_factory=free_port)
    go: threading.Event = field(default_factory=threading.Event)
    hung_up: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        async def echo(request: Request) -> Response:
            body = await request.body()
            return Response(body, headers={"X-Peer": str(request.client.port if request.client else 0)})

        async def events(request: Request) -> Response:
            async def produce() -> AsyncIterator[bytes]:
                for number in range(EVENTS):
                    yield f"data: {number}\n\n".encode()
                    if "paced" in request.query_params:
                        while not self.go.is_set():
                            await asyncio.sleep(0.005)

            return StreamingResponse(produce(), media_type="text/event-stream")

        async def endless(request: Request) -> Response:
            async def produce() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield b"data: more\n\n"
                        await asyncio.sleep(0.01)
                finally:
                    self.hung_up.append(request.url.path)

            return StreamingResponse(produce(), media_type="text/event-stream")

        async def health(_: Request) -> Response:
            return PlainTextResponse("fine")

        return Starlette(
            routes=[
                Route("/echo", echo, methods=["POST", "GET", "HEAD"]),
                Route("/events", events),
                Route("/endless", endless),
                Route("/health", health),
                Route("/metrics", health),
                Route("/nothing", lambda _: Response(status_code=204)),
            ]
        )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    server = uvicorn.Server(uvicorn.Config(running.app(), host="127.0.0.1", port=running.port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield running
    server.should_exit = True
    server.force_exit = True
    thread.join(5)


@dataclass
class Proxy:
    url: str
    control: str

    def break_it(self, **faults: object) -> None:
        httpx.post(f"{self.control}/faults", json=faults, trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def started(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder, port, control = tmp_path_factory.mktemp("proxy"), free_port(), free_port()
    options = ["--port", str(port), "--upstream", f"127.0.0.1:{engine.port}", "--control", str(control)]
    command = [sys.executable, "-m", "crossfade.lab.fault_proxy", *options]
    program = processes.start("proxy", command, records=folder, log=folder / "log", env={})
    proxy = Proxy(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{control}")

    def answers() -> bool:
        assert program.alive(), program.log_tail()
        try:
            return httpx.get(f"{proxy.control}/faults", trust_env=False).is_success
        except httpx.TransportError:
            return False

    until(answers, within_s=20)
    yield proxy
    processes.stop(program, deadline_s=5)
    assert "Traceback" not in program.log_tail(200)


@pytest.fixture
def proxy(started: Proxy) -> Iterator[Proxy]:
    started.break_it()
    yield started
    started.break_it()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, trust_env=False, timeout=20) as client:
        yield client


def raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_nothing_is_lost_under_load(proxy: Proxy) -> None:
    async def load() -> tuple[list[bool], list[bytes]]:
        # on a crowded machine a connection may idle until the proxy closes it, just as it is used again
        limits = httpx.Limits(max_connections=36, max_keepalive_connections=36, keepalive_expiry=1)
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=30, limits=limits) as client:
            at_once = asyncio.Semaphore(16)

            async def ask(number: int) -> bool:
                async with at_once:
                    body = f"{number} ".encode() * 300
                    return (await client.post("/echo", content=body)).content == body

            async def stream() -> bytes:
                return (await client.get("/events")).content

            asked = asyncio.gather(*(ask(number) for number in range(500)))
            streamed = asyncio.gather(*(stream() for _ in range(20)))
            return await asked, await streamed

    asked, streamed = asyncio.run(load())
    assert all(asked)
    assert set(streamed) == {b"".join(f"data: {number}\n\n".encode() for number in range(EVENTS))}


@pytest.mark.parametrize(
    "request_line",
    [b"GET /echo HTTP/1.1", b"HEAD /echo HTTP/1.1", b"GET /events HTTP/1.1", b"GET /nothing HTTP/1.1", b"GET /absent?x=1 HTTP/1.1"],
)
def test_every_byte_of_an_answer_is_the_engines_own(proxy: Proxy, engine: Engine, request_line: bytes) -> None:
    request = request_line + b"\r\nHOST: a\r\nConnection: close\r\n\r\n"

    def without_what_changes(answer: bytes) -> list[bytes]:
        return [line for line in answer.split(b"\r\n") if not line.startswith((b"date:", b"x-peer:"))]

    through = raw(httpx.URL(proxy.url).port or 0, request)
    assert without_what_changes(through) == without_what_changes(raw(engine.port, request))


def test_a_large_body_passes_both_ways_also_in_chunks(client: httpx.Client) -> None:
    body = bytes(range(256)) * 32_768
    assert client.post("/echo", content=body).content == body
    assert client.post("/echo", content=(body[at : at + 100_001] for at in range(0, len(body), 100_001))).content == body


def test_a_connection_is_kept_alive_on_both_sides(client: httpx.Client) -> None:
    assert len({client.post("/echo", content=b"x").headers["x-peer"] for _ in range(5)}) == 1


def test_pipelined_requests_are_answered_in_order(proxy: Proxy) -> None:
    def post(body: bytes, last: bool) -> bytes:
        return b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n%s\r\n" % (len(body), b"connection: close\r\n" * last) + body

    answer = raw(httpx.URL(proxy.url).port or 0, post(b"first", False) + post(b"second", False) + post(b"third", True))
    assert [answer.index(word) for word in (b"first", b"second", b"third")] == sorted(map(answer.index, (b"first", b"second", b"third")))


def test_an_event_arrives_before_the_next_one_is_made(client: httpx.Client, engine: Engine) -> None:
    engine.go.clear()
    with client.stream("GET", "/events?paced") as answer:
        events = answer.iter_raw()
        assert b"data: 0" in next(events)
        engine.go.set()
        assert b"data: 4" in b"".join(events)


def test_a_client_that_hangs_up_is_seen_by_the_engine(client: httpx.Client, engine: Engine) -> None:
    engine.hung_up.clear()
    with client.stream("GET", "/endless") as answer:
        next(answer.iter_raw())
    until(lambda: engine.hung_up)


def test_the_wished_share_of_requests_is_answered_503(proxy: Proxy, client: httpx.Client) -> None:
    proxy.break_it(error_share=1)
    assert [client.post("/echo", content=b"x" * 100_000).status_code for _ in range(3)] == [503, 503, 503]
    proxy.break_it(error_share=0.5)
    codes = [client.post("/echo", content=b"x").status_code for _ in range(200)]
    assert set(codes) == {200, 503}
    assert 60 < codes.count(503) < 140
    proxy.break_it()
    assert client.post("/echo", content=b"x").status_code == 200


def test_a_delay_comes_before_the_first_byte(proxy: Proxy, client: httpx.Client) -> None:
    proxy.break_it(delay_ms=300)
    began = time.monotonic()
    with client.stream("GET", "/events") as answer:
        assert time.monotonic() - began >= 0.3
        assert b"data: 4" in b"".join(answer.iter_raw())


def test_a_cut_stream_has_begun_and_never_ends(proxy: Proxy, client: httpx.Client, engine: Engine) -> None:
    proxy.break_it(cut_share=1)
    engine.hung_up.clear()
    received = []
    with pytest.raises(httpx.RemoteProtocolError), client.stream("GET", "/endless") as answer:
        assert answer.status_code == 200
        received.extend(answer.iter_raw())
    assert b"data: more" in received[0]
    until(lambda: engine.hung_up)
    assert client.post("/echo", content=b"whole").content == b"whole", "only streams are cut"


def test_health_and_metrics_stay_healthy_unless_told(proxy: Proxy, client: httpx.Client) -> None:
    proxy.break_it(error_share=1)
    assert [client.get(path).status_code for path in ("/health", "/metrics", "/health?deep", "/echo")] == [200, 200, 200, 503]
    proxy.break_it(error_share=1, health_too=True)
    assert client.get("/health").status_code == 503


@pytest.mark.parametrize("faults", [{"error_share": 2}, {"delay_ms": -1}, {"eror_share": 0.5}, []])
def test_faults_that_make_no_sense_are_refused_and_change_nothing(proxy: Proxy, faults: object) -> None:
    answer = httpx.post(f"{proxy.control}/faults", json=faults, trust_env=False)
    assert (answer.status_code, bool(answer.json()["error"])) == (422, True)
    now = httpx.get(f"{proxy.control}/faults", trust_env=False).json()
    assert now == {"delay_ms": 0, "error_share": 0, "cut_share": 0, "health_too": False}
