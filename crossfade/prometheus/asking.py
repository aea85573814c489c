"""Asking Prometheus with a deadline that holds.

The client library hands its timeout to `requests`, where it bounds connecting and each read, not the answer: a server that sends one
byte a second keeps its caller for ever. So each question runs in another thread and is left behind at the deadline.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from urllib3.util.retry import Retry

from crossfade.plan.units import format_seconds

_LEFT_BEHIND_AT_MOST = 16
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class _Threads:
    """Threads that wait for their next question: to start one for each costs more than many a question."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        os.register_at_fork(after_in_child=self._idle.clear)  # a forked process has none of its parent's threads

    def run(self, call: Callable[[], None]) -> None:
        """Call it in a thread that has nothing else to do."""
        try:
            calls = self._idle.pop()
        except IndexError:
            calls = SimpleQueue()
            threading.Thread(target=self._work, args=(calls,), daemon=True, name="ask-prometheus").start()
        calls.put(call)

    def _work(self, calls: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            calls.get()()
            self._idle.append(calls)


_THREADS = _Threads()


class NoAnswer(Exception):
    """Why there is no answer; the text is meant for a finding."""


class Rejected(NoAnswer):
    """Prometheus read the query and will not have it: asking again gives the same."""


class Asking:
    """One Prometheus, asked with PromQL. Every failure is a NoAnswer within about `timeout_s` seconds.

    Proxy settings of the environment are ignored: Prometheus is beside us, and a proxy's error page is no evidence.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        session = requests.Session()
        session.trust_env = False
        if urlsplit(url).hostname in _THIS_MACHINE:
            session.headers["Accept-Encoding"] = "identity"  # packing an answer takes both sides longer than loopback does
        # No retries: they would outlive the deadline, and the next poll asks again anyway. The library's own limit comes after
        # ours and only ends threads that were left behind.
        self._prometheus = PrometheusConnect(url=url, session=session, retry=Retry(0), timeout=math.ceil(2 * timeout_s))
        self._url = url
        self._timeout_s = timeout_s
        self._free = threading.BoundedSemaphore(_LEFT_BEHIND_AT_MOST)

    def ask(self, promql: str, *, at_s: float | None = None) -> object:
        """The `result` of an instant query, as parsed JSON. `at_s` defaults to Prometheus' own now."""
        params = {"time": f"{at_s:.3f}"} if at_s is not None else {}
        return self._within_deadline(lambda: self._prometheus.custom_query(promql, params=params))

    def values(self, label: str, *, match: str = "") -> list[str]:
        """Every value a label has had in any series, or in those that `match` selects; `__name__` for the names of metrics."""
        params = {"match[]": match} if match else {}
        found = self._within_deadline(lambda: self._prometheus.get_label_values(label, params=params))
        if not isinstance(found, list):
            raise NoAnswer(self._explained(TypeError()))
        return [str(value) for value in found]

    def _within_deadline(self, call: Callable[[], object]) -> object:
        if not self._free.acquire(blocking=False):
            raise NoAnswer(f"Prometheus at {self._url} still hangs in {_LEFT_BEHIND_AT_MOST} earlier questions")
        answers: SimpleQueue[tuple[object, Exception | None]] = SimpleQueue()
        _THREADS.run(lambda: self._run(call, answers))
        try:
            answer, error = answers.get(timeout=self._timeout_s)
        except Empty:
            error = requests.Timeout()
        if error:
            rejected = isinstance(error, PrometheusApiClientException) and re.match(r"HTTP Status Code (400|422)\b", str(error))
            raise (Rejected if rejected else NoAnswer)(self._explained(error)) from None
        return answer

    def _run(self, call: Callable[[], object], answers: SimpleQueue[tuple[object, Exception | None]]) -> None:
        try:
            answers.put((call(), None))
        except Exception as error:  # whatever it is goes to the caller
            answers.put((None, error))
        finally:
            self._free.release()

    def _explained(self, error: Exception) -> str:
        if isinstance(error, requests.Timeout):
            return (
                f"Prometheus at {self._url} did not answer within {format_seconds(self._timeout_s)}; is it overloaded or stopped? "
                "The limit is prometheus.timeout in the plan"
            )
        if isinstance(error, PrometheusApiClientException):
            return f"Prometheus at {self._url} refused the query: {_said(str(error))}"
        if isinstance(error, ValueError | KeyError | TypeError):
            return (
                f"{self._url} does not answer like a Prometheus ({type(error).__name__}); prometheus.url in the plan must be "
                "Prometheus' own address, not that of a login page or a dashboard"
            )
        return f"Prometheus at {self._url} cannot be reached ({type(error).__name__}); start it, or mend prometheus.url in the plan"


def _said(refusal: str) -> str:
    """Prometheus' own words; the library wraps the body of the refusal, as Python prints bytes, into a sentence of its own."""
    wrapped = re.search(r"\((b['\"].*)\)$", refusal, re.DOTALL)
    try:
        return str(json.loads(ast.literal_eval(wrapped[1]))["error"])[:300] if wrapped else refusal[:300]
    except (ValueError, SyntaxError, KeyError, TypeError):
        return refusal[:300]
