"""A failing target is invisible to clients and plain to see in the metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from envoy_doubles import EngineDouble
from envoy_rig import Rig, eventually

from crossfade.envoy.names import BUCKETS_MS
from crossfade.rollout.routes import Upstream


def test_a_target_that_refuses_connections_is_hidden_from_clients_and_counted_as_failed(rig):
    rig.route(10_000)
    rig.target.stop()
    assert rig.engines(30) == {"source": 30}
    eventually(lambda: rig.requests(route="m", intended="target", engine="source", code="200") == 30)
    assert rig.requests(route="m", intended="target", engine="target") == 0


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_overload_answer_of_the_target_is_hidden_from_many_clients_at_once(rig, status):
    rig.route(10_000)
    rig.target.status = status
    with ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(lambda _: rig.ask(), range(120)))
    assert {answer.status_code for answer in answers} == {200}
    eventually(lambda: rig.requests(route="m", intended="target", engine="source") == 120)


def test_an_error_of_the_target_itself_is_passed_on_and_counted(rig):
    rig.route(10_000)
    rig.target.status = 500
    assert rig.engines(10) == {"500": 10}
    eventually(lambda: rig.requests(route="m", intended="target", engine="target", code="500") == 10)


def test_the_rehearsals_broken_engine_fails_in_the_metrics_only(rig):
    rig.route(10_000, name="hidden", upstream=Upstream.REHEARSAL_BREACH)
    assert rig.engines(10, model="hidden") == {"source": 10}
    eventually(lambda: rig.requests(route="hidden", intended="broken", engine="source", code="200") == 10)


def test_a_target_that_comes_up_later_is_used_within_seconds(cold_rig):
    port = cold_rig.target.port
    cold_rig.target.stop()
    cold_rig.start()
    cold_rig.route(10_000)
    assert cold_rig.engines(5) == {"source": 5}
    cold_rig.target = EngineDouble("target", port).start()
    eventually(lambda: cold_rig.engines(1) == {"target": 1})


def test_a_source_that_misses_its_health_checks_is_still_asked(cold_rig):
    cold_rig.source.healthy = False
    cold_rig.start()
    assert cold_rig.engines(10) == {"source": 10}


@pytest.fixture
def cutting_target(cold_rig: Rig) -> Iterator[Rig]:
    """A target that closes the connection in the middle of every streamed answer."""
    port = cold_rig.target.port
    cold_rig.target.stop()
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=_cut_streams, args=(listener,), daemon=True)
    thread.start()
    yield cold_rig
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def _cut_streams(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            asked = connection.recv(65536)
            if asked.startswith(b"GET /health"):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            else:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n"
                )


def test_a_stream_the_target_cuts_has_code_200_and_a_flag(cutting_target):
    rig = cutting_target
    rig.start()
    rig.route(10_000)
    with pytest.raises(httpx.RemoteProtocolError):
        rig.ask()
    eventually(lambda: rig.requests(route="m", intended="target", engine="target", code="200") == 1)
    assert rig.requests(route="m", intended="target", flags="-") == 0


def test_the_metrics_listener_shows_nothing_but_metrics(rig):
    rig.route(10_000)
    rig.engines(3)
    base = f"http://{rig.stack.metrics_listen}"
    with httpx.Client(base_url=base, trust_env=False) as client:
        assert client.get("/ready").text == "LIVE\n"
        for path in ("/", "/config_dump", "/stats", "/stats/prometheus/x", "/quitquitquit"):
            assert (client.get(path).status_code, client.post(path).status_code) == (404, 404), path
        assert client.post("/stats/prometheus").status_code == 404
        eventually(lambda: 'envoy_cf_ttft_bucket{route="m"' in client.get("/stats/prometheus").text)
        scraped = client.get("/stats/prometheus").text
    bounds = [line.split('le="')[1].split('"')[0] for line in scraped.splitlines() if line.startswith('envoy_cf_ttft_bucket{route="m"')]
    assert bounds == [*(str(bound) for bound in BUCKETS_MS), "+Inf"]
