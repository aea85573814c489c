"""Real llama.cpp behind the stand-in: one instance for each model file, loaded on first use, unloaded when nobody wants it.

llama.cpp runs inside this process with an HTTP server of its own on a loopback port; answers are always taken from it as a
stream, so that closing the stream frees the slot at once when a client goes away.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import xllamacpp

from crossfade.lab.source_models import ModelFile

SLOTS = 4
"""Requests that generate at once; more wait their turn, as with OLLAMA_NUM_PARALLEL."""

SLOT_TOKENS = 1024
CONNECTIONS = 48
"""Requests llama.cpp may hold at once, waiting ones included; each takes one of its HTTP threads. The rest wait before it."""

KEEP_ALIVE_S = 300.0
"""How long a model stays loaded that no request said anything about."""


@dataclass(frozen=True)
class GenerationRequest:
    """A request in llama.cpp's own words; `path` is its endpoint."""

    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """Some text as it was generated, with the tokens' log probabilities where they were asked for."""

    text: str
    logprobs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Finished:
    """The end of an answer, with what Ollama reports of it. Durations are in nanoseconds."""

    reason: str
    prompt_tokens: int
    prompt_ns: int
    tokens: int
    eval_ns: int
    load_ns: int
    total_ns: int


@dataclass(frozen=True)
class Loaded:
    """A model in memory: the way to its llama.cpp, and how long loading took if it was not there before."""

    llama: httpx.AsyncClient
    load_ns: int


class RunnerRefused(Exception):
    """llama.cpp answered with an error instead of text; `status` and `text` are its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Runner:
    """One model file in llama.cpp. All methods run on one event loop."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.slot_tokens = min(SLOT_TOKENS, file.context_length)
        self.name = ""
        """The name it was last asked for under; `/api/ps` shows it."""
        self.keep_alive_s = KEEP_ALIVE_S
        self.expires_s = 0.0
        """When it may be unloaded, seconds since the epoch; infinite for never."""
        self._server: xllamacpp.Server | None = None
        self._client: httpx.AsyncClient | None = None
        self._users = 0
        self._changing = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._server is not None

    @property
    def _over(self) -> bool:
        """Whether nobody uses it and its time has passed."""
        return self._users == 0 and self.expires_s <= time.time()

    @asynccontextmanager
    async def in_use(self, name: str, keep_alive_s: float | None) -> AsyncIterator[Loaded]:
        """Keep the model loaded inside the block and a while longer.

        `keep_alive_s` says how much longer, from now on and for every later request that gives None.
        """
        if keep_alive_s is not None:
            self.keep_alive_s = keep_alive_s
        elif self._over:
            self.keep_alive_s = KEEP_ALIVE_S
        self._users += 1
        self.name = name
        try:
            yield await self._load()
        finally:
            self._users -= 1
            self.expires_s = time.time() + self.keep_alive_s

    async def generate(self, request: GenerationRequest, name: str, keep_alive_s: float | None) -> AsyncGenerator[Piece | Finished, None]:
        """The answer piece by piece, then one Finished. Close the iterator to stop early; the slot is free at once.

        Raises RunnerRefused, before the first piece unless llama.cpp fails midway.
        """
        began_ns = time.monotonic_ns()
        body = request.body | {"stream": True, "stream_options": {"include_usage": True}}
        end = _End()
        try:
            async with self.in_use(name, keep_alive_s) as loaded, loaded.llama.stream("POST", request.path, json=body) as reply:
                if reply.status_code != 200:
                    raise RunnerRefused(reply.status_code, (await reply.aread()).decode(errors="replace"))
                async for line in reply.aiter_lines():
                    if piece := end.read(line):
                        yield piece
        except httpx.HTTPError as error:
            raise RunnerRefused(500, f"llama runner process no longer running: {error!r}") from None
        yield end.finished(load_ns=loaded.load_ns, total_ns=time.monotonic_ns() - began_ns)

    def unload_when_idle(self) -> None:
        """Let the model's time be over; answers under way are finished first."""
        self.keep_alive_s = self.expires_s = 0.0

    async def unload_if_expired(self) -> None:
        """Free the model's memory if its time is over and nobody uses it."""
        async with self._changing:
            if self._server is None or self._client is None or not self._over:
                return
            server, client, self._server, self._client = [self._server], self._client, None, None
            await client.aclose()
            await asyncio.to_thread(server.clear)  # its destructor waits for llama.cpp's threads

    async def _load(self) -> Loaded:
        async with self._changing:
            if self._client is not None:
                return Loaded(self._client, load_ns=0)
            began_ns = time.monotonic_ns()
            server = await asyncio.to_thread(xllamacpp.Server, self._parameters())
            client = _client(server.listening_address)
            # A server that is destroyed before it has answered once hangs for ever (xllamacpp 2026.10), so ask it something.
            (await client.get("/health")).raise_for_status()
            self._server, self._client = server, client
            return Loaded(client, load_ns=time.monotonic_ns() - began_ns)

    def _parameters(self) -> xllamacpp.CommonParams:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self.file.path)
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.n_parallel = SLOTS
        parameters.n_ctx = SLOTS * self.slot_tokens
        parameters.n_threads_http = CONNECTIONS + 2
        parameters.cpuparams.n_threads = 1  # a model this small is slower with more, and the lab's other parts need the cores
        parameters.ctx_shift = True  # as Ollama starts it: answers may be longer than the window
        parameters.cache_ram_mib = 0
        parameters.warmup = False
        parameters.fit_params = False
        parameters.ui = False
        parameters.verbosity = -1
        parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        return parameters


def _client(address: str) -> httpx.AsyncClient:
    # One connection a request: llama.cpp now and then closes a kept one without a word, which cost one answer in thousands.
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0)
    # No timeout: waiting for a slot takes as long as it takes, and the client in front decides when to give up.
    return httpx.AsyncClient(base_url=address, limits=limits, headers={"Connection": "close"}, timeout=None, trust_env=False)  # noqa: S113


class _End:
    """Reads llama.cpp's event stream and remembers what belongs to the end of the answer."""

    def __init__(self) -> None:
        self.reason = "stop"
        self.usage: dict[str, int] = {}
        self.timings: dict[str, float] = {}

    def read(self, line: str) -> Piece | None:
        """The text in one line of the stream, if it carries any; raises RunnerRefused for an error event."""
        if not line.startswith("data: ") or line == "data: [DONE]":
            if line.startswith("error: "):
                raise RunnerRefused(500, line.removeprefix("error: "))
            return None
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise RunnerRefused(int(event["error"].get("code", 500)), json.dumps(event))
        self.usage = event.get("usage") or self.usage
        self.timings = event.get("timings") or self.timings
        for choice in event.get("choices", ()):
            self.reason = choice.get("finish_reason") or self.reason
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            tokens = (choice.get("logprobs") or {}).get("content") or ()
            if text or tokens:
                return Piece(text or "", tuple(tokens))
        return None

    def finished(self, *, load_ns: int, total_ns: int) -> Finished:
        """The last event of an answer."""
        return Finished(
            reason=self.reason,
            prompt_tokens=self.usage.get("prompt_tokens", 0),
            prompt_ns=int(self.timings.get("prompt_ms", 0) * 1e6),
            tokens=self.usage.get("completion_tokens", 0),
            eval_ns=int(self.timings.get("predicted_ms", 0) * 1e6),
            load_ns=load_ns,
            total_ns=total_ns,
        )
