"""One request by an official client, and what a user would call its outcome.

Retries are off: a request that only a second try saves has failed here. The libraries read no proxy from the environment,
because the load goes to the router on this machine and nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx
import ollama
import openai

from crossfade.lab.client_report import ErrorKind, Kind

MAX_TOKENS = 64


class CutStreamError(Exception):
    """A stream ended without its protocol's end mark (`finish_reason`, or `done`)."""


class EmptyAnswerError(Exception):
    """A complete answer without a character of text."""


@dataclass
class Exchange:
    """One request under way. `began_s` is set at the first sign of an answer, `first_text_s` at its first text (monotonic)."""

    kind: Kind
    prompt: str
    sent_s: float
    began_s: float | None = None
    first_text_s: float | None = None

    def begin(self) -> None:
        """The answer has begun."""
        self.began_s = self.began_s or time.monotonic()

    def text(self, piece: str | None) -> str:
        """Note a piece of a streamed answer and give it back as text."""
        self.begin()
        if piece and self.first_text_s is None:
            self.first_text_s = time.monotonic()
        return piece or ""

    @property
    def ttft_ms(self) -> float | None:
        """Time to first text; None where there was none or it was not streamed."""
        return None if self.first_text_s is None else (self.first_text_s - self.sent_s) * 1000


class Clients:
    """Both official clients on one address; `ask` uses the one the exchange's kind names."""

    def __init__(self, base: str, model: str, *, timeout_s: float) -> None:
        self._model = model
        self._openai = openai.AsyncOpenAI(
            base_url=f"{base}/v1",
            api_key="unused",
            max_retries=0,
            timeout=timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )
        self._ollama = ollama.AsyncClient(host=base, timeout=timeout_s, trust_env=False)

    async def ask(self, exchange: Exchange) -> str:
        """The whole text of a greedy answer. Raises what the libraries raise, CutStreamError or EmptyAnswerError."""
        match exchange.kind:
            case "openai":
                text = await self._ask_openai(exchange)
            case "openai-stream":
                text = await self._stream_openai(exchange)
            case "ollama":
                text = await self._ask_ollama(exchange)
            case "ollama-stream":
                text = await self._stream_ollama(exchange)
        if not text:
            raise EmptyAnswerError("the answer is complete and has no text")
        return text

    async def close(self) -> None:
        """Close all connections."""
        await self._openai.close()
        await self._ollama.close()  # type: ignore[no-untyped-call]  # the library left this one without types

    async def _ask_openai(self, exchange: Exchange) -> str:
        completion = await self._openai.chat.completions.create(
            model=self._model, messages=[{"role": "user", "content": exchange.prompt}], temperature=0, max_tokens=MAX_TOKENS
        )
        choice = completion.choices[0]
        if not choice.finish_reason:
            raise CutStreamError("the answer has no finish_reason")
        return choice.message.content or ""

    async def _stream_openai(self, exchange: Exchange) -> str:
        text, finish = "", ""
        async with await self._openai.chat.completions.create(
            model=self._model, messages=[{"role": "user", "content": exchange.prompt}], temperature=0, max_tokens=MAX_TOKENS, stream=True
        ) as stream:
            exchange.begin()
            async for chunk in stream:
                for choice in chunk.choices:
                    text += exchange.text(choice.delta.content)
                    finish = choice.finish_reason or finish
        if not finish:
            raise CutStreamError(f"the stream ended without finish_reason after {len(text)} characters")
        return text

    async def _ask_ollama(self, exchange: Exchange) -> str:
        response = await self._ollama.chat(
            model=self._model,
            messages=[{"role": "user", "content": exchange.prompt}],
            options={"temperature": 0, "num_predict": MAX_TOKENS},
        )
        if not response.done:
            raise CutStreamError("the answer is not done")
        return response.message.content or ""

    async def _stream_ollama(self, exchange: Exchange) -> str:
        text, done = "", False
        async for part in await self._ollama.chat(
            model=self._model,
            messages=[{"role": "user", "content": exchange.prompt}],
            options={"temperature": 0, "num_predict": MAX_TOKENS},
            stream=True,
        ):
            text += exchange.text(part.message.content)
            done = done or bool(part.done)
        if not done:
            raise CutStreamError(f"the stream ended without done after {len(text)} characters")
        return text


def error_kind(error: BaseException, exchange: Exchange) -> ErrorKind:
    """What a user would call `error`. Whatever goes wrong after the answer began is a cut answer."""
    if isinstance(error, EmptyAnswerError):
        return "empty"
    if isinstance(error, TimeoutError | openai.APITimeoutError | httpx.TimeoutException):
        return "timeout"
    if isinstance(error, CutStreamError) or exchange.began_s is not None or _ended_inside(error):
        return "cut"
    if isinstance(error, openai.APIStatusError) or (isinstance(error, ollama.ResponseError) and error.status_code >= 400):
        return "status"
    if isinstance(error, ollama.ResponseError):
        return "cut"  # an error line in a stream whose status was 200
    if isinstance(error, openai.APIConnectionError | httpx.TransportError | ConnectionError):
        return "connection"
    return "other"


def error_text(error: BaseException) -> str:
    """One short line for the report: class, status where there is one, and message."""
    status = getattr(error, "status_code", None)
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    message = " ".join(f"{type(error).__name__}{f' {status}' if status else ''}: {error}{cause}".split())
    return message[:300]


def _ended_inside(error: BaseException) -> bool:
    """Whether the connection closed in the middle of a body.

    Only the words of the error below say so, and each library brings its own copy of the class.
    """
    below: BaseException | None = error
    while below is not None:
        if "complete message body" in str(below):
            return True
        below = below.__cause__ or below.__context__
    return False
