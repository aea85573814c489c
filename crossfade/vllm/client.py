"""vLLM as an engine that answers: models, greedy completions, and the names of its metrics."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from crossfade.errors import EngineDied, EngineWarming, GateFailed, PermanentError, Unreachable
from crossfade.ports import Completion
from crossfade.vllm.diagnosis import diagnose
from crossfade.vllm.key import read_key
from crossfade.vllm.readings import Readings, read_metrics
from crossfade.vllm.signatures import Category

_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)[ {]", re.MULTILINE)
GATE_METRICS = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    "vllm:iteration_tokens_total_count",
)
"""What gates and heartbeat read, in the names of vLLM since 0.18."""

_NO_LIMIT = httpx.Limits(max_connections=None)  # else more than a hundred requests at once wait for each other in here
_BODY_LIMIT = 300  # characters of an error's body that a message quotes


Shape = TypeVar("Shape", bound=BaseModel)


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Model(_Reply):
    id: str


class _Models(_Reply):
    data: tuple[_Model, ...]


class _Message(_Reply):
    content: str | None = None  # null when a reasoning parser took everything (H7)


class _Choice(_Reply):
    message: _Message
    finish_reason: str | None = None


class _Chat(_Reply):
    choices: tuple[_Choice, ...]


class _Key(httpx.Auth):
    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {read_key(self._file)}"
        yield request


class VllmTarget:
    """The vLLM server at `url`; every request ends within `timeout_s` seconds.

    Proxies of the environment are ignored: the server is on our own network. The key in
    `key_file` is read when a request is made and not before: a rollback must not need it.
    """

    def __init__(self, url: str, *, timeout_s: float, key_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        # A refused connection and a slow answer are different facts (H8), so connecting has its own short limit.
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0))
        self._client = httpx.Client(
            base_url=self.url, timeout=timeout, auth=_Key(key_file) if key_file else None, limits=_NO_LIMIT, trust_env=False
        )

    def models(self) -> tuple[str, ...]:
        """Every name it serves. They answer also when the engine behind them is frozen, so this is no sign of life (H8)."""
        return tuple(model.id for model in _parsed(_Models, self._request("GET", "/v1/models"), self.url).data)

    def complete(self, model: str, prompt: str, *, max_tokens: int) -> Completion:
        """Greedy answer to one user message.

        Raises EngineWarming while nothing listens or the server says so, Unreachable when it does not answer in time,
        EngineDied when it fails inside, PermanentError when it refuses the request (unknown model, prompt too long).
        """
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": max_tokens}
        began = time.monotonic()
        reply = _parsed(_Chat, self._request("POST", "/v1/chat/completions", body), self.url)
        if not reply.choices:
            raise EngineDied(f"vLLM at {self.url} answered with no choice at all; look into its log.")
        choice = reply.choices[0]
        return Completion(choice.message.content or "", choice.finish_reason or "", time.monotonic() - began)

    def metric_names(self) -> frozenset[str]:
        """Names of all series on /metrics, as Prometheus will store them. Some appear only after the first request."""
        return frozenset(_SAMPLE.findall(self._request("GET", "/metrics").text))

    def check_metric_names(self, names: Iterable[str] = GATE_METRICS) -> None:
        """Return when each of `names` is on /metrics; raises GateFailed listing the others.

        Names move between versions, and a gate that asks for a name of yesterday finds nothing, for ever (H11).
        """
        wanted = set(names)
        if missing := sorted(wanted - self.metric_names()):
            raise GateFailed(
                f"vLLM at {self.url} does not export {', '.join(missing)}, which the plan's gates read. "
                f"Use the names of this vLLM version (GET {self.url}/metrics), or the version the gates were written for."
            )

    def readings(self) -> Readings:
        """What the engine says of itself now."""
        return read_metrics(self._request("GET", "/metrics").text)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _request(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            reply = self._client.request(method, path, json=body)
        except httpx.ConnectError:
            raise EngineWarming(f"nothing listens at {self.url} yet.") from None
        except httpx.TimeoutException:
            raise Unreachable(f"vLLM at {self.url} did not answer {path} within {self.timeout_s:g} s.") from None
        except httpx.TransportError as error:
            raise Unreachable(f"vLLM at {self.url} broke the connection during {path} ({type(error).__name__}).") from None
        if reply.is_success:
            return reply
        raise _failure(reply, self.url, path)


def _failure(reply: httpx.Response, url: str, path: str) -> Exception:
    said = " ".join(reply.text.split())[:_BODY_LIMIT]
    what = f"vLLM at {url} answered {path} with {reply.status_code}: {said}"
    known = diagnose(reply.text)
    if known.category is not Category.UNKNOWN:
        return PermanentError(f"{what} This means {known.summary}. {known.resolution}")
    if reply.status_code == 401:
        return PermanentError(f"vLLM at {url} wants a key that it was not sent. Check target.vllm.api_key_file in the plan.")
    if reply.status_code in (429, 503):
        return EngineWarming(what)
    if reply.is_server_error:
        return EngineDied(f"{what} Look into its log.")
    return PermanentError(f"{what} The request itself must change.")


def _parsed(shape: type[Shape], reply: httpx.Response, url: str) -> Shape:
    try:
        return shape.model_validate_json(reply.content)
    except ValidationError:
        raise PermanentError(f"{url} does not answer like vLLM; is something else listening there?") from None
