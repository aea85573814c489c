"""Whatever Prometheus does instead of answering, the caller gets Blind with the reason, in time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from polling import free_port

from crossfade.judge.evidence import Blind, Reading
from crossfade.prometheus.metrics import PrometheusMetrics


class Answering:
    """A server that says to every request what it was told to, or says nothing, or says it one byte at a time."""

    def __init__(self, body: str, *, mute: bool = False, dripping: bool = False) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._reply = (head + body).encode()
        self._mute, self._dripping = mute, dripping
        self._open = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._open.set()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            if self._mute:
                self._open.wait()
                return
            for byte in self._reply if self._dripping else [self._reply]:
                try:
                    connection.sendall(bytes([byte]) if isinstance(byte, int) else byte)
                except OSError:
                    return
                if self._dripping and self._open.wait(0.02):
                    return


@pytest.fixture
def answering() -> Iterator[type[Answering]]:
    made: list[Answering] = []

    class Kept(Answering):
        def __init__(self, *args: str, **kwargs: bool) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    yield Kept
    for server in made:
        server.close()


def vector(*values: str) -> str:
    result = [{"metric": {"n": str(i)}, "value": [time.time(), value]} for i, value in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def why(found: object) -> str:
    assert isinstance(found, Blind), found
    return found.why


def ask(url: str, *, timeout_s: float = 5) -> PrometheusMetrics:
    return PrometheusMetrics(url, timeout_s=timeout_s, stale_after_s=5)


@pytest.mark.parametrize("manner", ["mute", "dripping"])
def test_a_server_that_hangs_costs_no_more_than_the_timeout(answering, manner: str) -> None:
    metrics = ask(answering(vector("1"), **{manner: True}).url, timeout_s=0.5)
    began = time.monotonic()
    assert "did not answer within 500ms" in why(metrics.read("kv", "up"))
    assert "did not answer within 500ms" in why(metrics.intervals("m", since_s=time.time() - 10, now_s=time.time()))
    assert "did not answer within 500ms" in why(metrics.complete_intervals("m", since_s=time.time() - 10, now_s=time.time()))
    assert "did not answer within 500ms" in why(metrics.probe("kv", "up"))
    assert time.monotonic() - began < 20


def test_questions_left_behind_do_not_pile_up(answering) -> None:
    metrics = ask(answering(vector("1"), dripping=True).url, timeout_s=0.05)
    reasons = [why(metrics.read("kv", "up")) for _ in range(20)]
    assert "still hangs in 16 earlier questions" in reasons[-1]


def test_a_closed_port_is_said_to_be_unreachable() -> None:
    metrics = ask(f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in why(metrics.read("kv", "up"))
    assert "cannot be reached" in why(metrics.intervals("m", since_s=time.time() - 10, now_s=time.time()))


@pytest.mark.parametrize(
    "body",
    [
        "<html>sign in</html>",
        "{}",
        json.dumps({"data": {"result": {"a": 1}}}),
        json.dumps({"data": {"result": [{"metric": {}, "values": [[1, "-4"]]}]}}),
        json.dumps({"data": {"result": [{"metric": {}, "values": [[1, "NaN"]]}]}}),
        json.dumps({"data": {"result": [{"metric": {}, "values": "soon"}]}}),
        json.dumps({"data": {"result": ["many"]}}),
        json.dumps({"data": {"result": [{"metric": {"__name__": "envoy_cf_requests", "le": "x"}, "values": [[1, "1"]]}]}}),
    ],
)
def test_nonsense_is_no_evidence(answering, body: str) -> None:
    metrics = ask(answering(body).url)
    assert why(metrics.intervals("m", since_s=time.time() - 10, now_s=time.time()))
    assert why(metrics.complete_intervals("m", since_s=time.time() - 60, now_s=time.time()))
    assert why(metrics.bounds("m", "ttft"))


def test_counters_without_any_growth_in_the_asked_time_are_stale(answering) -> None:
    old = json.dumps({"data": {"result": [{"metric": {"__name__": "envoy_cf_requests"}, "values": [[time.time() - 30, "5"]]}]}})
    assert "the newest sample is 30s old" in why(ask(answering(old).url).intervals("m", since_s=time.time() - 60, now_s=time.time()))


def alive(*ages_s: float) -> str:
    """The sign of life, last seen so long ago; the answer to every question."""
    name = {"__name__": "envoy_http_rds_update_attempt"}
    result = [{"metric": {**name, "instance": str(i)}, "values": [[time.time() - age, "1"]]} for i, age in enumerate(ages_s)]
    return json.dumps({"status": "success", "data": {"result": result}})


@pytest.mark.parametrize(
    ("ages_s", "reason"),
    [((), "Prometheus has never seen envoy_http_rds_update_attempt"), ((-60,), "a time nobody asked for")],
)
def test_a_router_that_is_not_scraped_has_no_whole_intervals(answering, ages_s: tuple[float, ...], reason: str) -> None:
    found = ask(answering(alive(*ages_s)).url).complete_intervals("m", since_s=time.time() - 60, now_s=time.time())
    assert reason in why(found)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (vector(), "found no data"),
        (vector("1", "2"), "gives 2 values where one number is needed"),
        (vector("NaN"), "gives NaN"),
        (vector("+Inf"), "gives +Inf"),
        (vector("soon"), "no number"),
        (json.dumps({"data": {"result": [{"metric": {}, "values": [[1, "1"]]}]}}), "gives a range"),
    ],
)
def test_a_query_that_gives_no_single_number_is_blind_and_says_what_to_write(answering, body: str, reason: str) -> None:
    assert reason in why(ask(answering(body).url).read("kv", "up"))


def test_real_prometheus_gives_numbers_and_says_what_is_wrong_with_a_query(metrics: PrometheusMetrics) -> None:
    assert metrics.read("one", "scalar(up)") == Reading(gate="one", value=1)
    assert metrics.read("one", 'max(up{job="crossfade-router"})') == Reading(gate="one", value=1)
    assert "parse error" in why(metrics.read("typo", "max(up"))
    assert "found no data" in why(metrics.read("absent", "max(nobody_exports_this)"))
    assert "gives NaN" in why(metrics.read("nan", "0 * (1 / 0)"))
    assert "gives a range" in why(metrics.read("range", "up[10s]"))


def test_a_prometheus_that_scrapes_nothing_any_more_is_not_believed(answering) -> None:
    metrics = ask(answering(vector("30")).url)
    assert why(metrics.read("kv", "max(vllm:kv_cache_usage_perc)")) == "Prometheus has scraped nothing for 30s"
