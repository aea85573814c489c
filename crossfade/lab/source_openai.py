"""Ollama's OpenAI endpoints over the stand-in's models, with Ollama's own differences from OpenAI and vLLM."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crossfade.lab.source_answers import EventStream, Stock, begin, chain, gather, json_response, to_json
from crossfade.lab.source_models import ModelFile
from crossfade.lab.source_options import constraint, llama_options, openai_options
from crossfade.lab.source_requests import ChatCompletionRequest, CompletionRequest, OpenAiRequest, Refused
from crossfade.lab.source_runner import Finished, GenerationRequest, Piece, Runner, RunnerRefused

CHAT = "/v1/chat/completions"


def openai_routes(stock: Stock) -> list[Route]:
    """The routes of `/v1/*`."""
    openai = _OpenAi(stock)
    return [
        Route("/v1/models", openai.models, methods=["GET"]),
        Route("/v1/models/{name}", openai.model, methods=["GET"]),
        Route(CHAT, openai.chat, methods=["POST"]),
        Route("/v1/completions", openai.completion, methods=["POST"]),
    ]


class _OpenAi:
    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    async def models(self, _: Request) -> Response:
        models = [_model(name, file) for name, file in self._stock.catalogue.newest_first()]
        return json_response({"object": "list", "data": models or None})

    async def model(self, request: Request) -> Response:
        asked = str(request.path_params["name"])
        _, file, _ = self._stock.find(asked)
        return json_response(_model(asked, file))

    async def chat(self, request: Request) -> Response:
        asked = ChatCompletionRequest.read(await request.body())
        if not asked.messages:
            raise Refused(400, "[] is too short - 'messages'")
        name, _, runner = self._stock.find(asked.model)
        if asked.tools:
            raise Refused(400, f"registry.ollama.ai/library/{name} does not support tools")
        extra = _format(asked.response_format) | ({"logprobs": True, "top_logprobs": asked.top_logprobs} if asked.logprobs else {})
        messages = [message for raw in asked.messages for message in _messages(raw)]
        return await _answer(request, asked, _Wanted(name, runner, {"messages": messages} | extra, _ChatShape(asked.model)))

    async def completion(self, request: Request) -> Response:
        asked = CompletionRequest.read(await request.body())
        name, _, runner = self._stock.find(asked.model)
        if asked.suffix:
            raise Refused(400, f"registry.ollama.ai/library/{name} does not support insert")
        messages = [{"role": "user", "content": asked.prompt}]  # Ollama templates plain completions too; vLLM does not
        return await _answer(request, asked, _Wanted(name, runner, {"messages": messages}, _CompletionShape(asked.model)))


async def _answer(request: Request, asked: OpenAiRequest, wanted: _Wanted) -> Response:
    options, shape = llama_options(openai_options(asked), slot_tokens=wanted.runner.slot_tokens), wanted.shape
    events = wanted.runner.generate(GenerationRequest(CHAT, wanted.body | options), wanted.name, keep_alive_s=None)
    if asked.stream:
        first = await begin(request, events)
        lines = _lines(chain(first, events), shape, with_usage=asked.stream_options.include_usage)
        return EventStream(lines, events, "text/event-stream")
    text, logprobs, end = await gather(request, events)
    return json_response(shape.whole(text, logprobs, end))


async def _lines(events: AsyncIterator[Piece | Finished], shape: _ChatShape, *, with_usage: bool) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            if isinstance(event, Piece):
                yield _event(shape.part(event))
                continue
            yield _event(shape.last(event.reason))
            if with_usage:
                yield _event(shape.head() | {"choices": [], "usage": _usage(event)})
        yield b"data: [DONE]\n\n"
    except RunnerRefused:  # Ollama loses the error here: an empty chunk of an empty model, then the end, and no [DONE]
        yield _event(_ChatShape("").part(Piece("")))


class _ChatShape:
    """Chat completions as Ollama writes them; the id repeats among a thousand."""

    kind, prefix = "chat.completion", "chatcmpl"

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = f"{self.prefix}-{random.randrange(999)}"  # noqa: S311 - as Ollama makes them
        self._created_s = int(time.time())

    def head(self, *, whole: bool = False) -> dict[str, Any]:
        """The fields every object begins with."""
        kind = self.kind if whole or self.kind == "text_completion" else f"{self.kind}.chunk"
        return {"id": self._id, "object": kind, "created": self._created_s, "model": self._model, "system_fingerprint": "fp_ollama"}

    def part(self, piece: Piece) -> dict[str, Any]:
        """One chunk of a stream."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": piece.text}, "finish_reason": None}
        return self.head() | {"choices": [choice | _logprobs(list(piece.logprobs))]}

    def last(self, reason: str) -> dict[str, Any]:
        """The chunk that ends a stream."""
        return self.head() | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}

    def whole(self, text: str, logprobs: list[dict[str, Any]], end: Finished) -> dict[str, Any]:
        """The answer in one object."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": end.reason}
        return self.head(whole=True) | {"choices": [choice | _logprobs(logprobs)], "usage": _usage(end)}


class _CompletionShape(_ChatShape):
    """Plain completions: a zero usage on every chunk, and log probabilities never."""

    kind, prefix = "text_completion", "cmpl"

    def part(self, piece: Piece) -> dict[str, Any]:
        """One chunk of a stream."""
        return self._with(piece.text, None)

    def last(self, reason: str) -> dict[str, Any]:
        """The chunk that ends a stream."""
        return self._with("", reason)

    def whole(self, text: str, logprobs: list[dict[str, Any]], end: Finished) -> dict[str, Any]:
        """The answer in one object."""
        del logprobs
        return self._with(text, end.reason) | {"usage": _usage(end)}

    def _with(self, text: str, reason: str | None) -> dict[str, Any]:
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return self.head() | {"choices": [{"text": text, "index": 0, "finish_reason": reason}], "usage": usage}


@dataclass(frozen=True)
class _Wanted:
    """What to ask of which model, and how to write its answer."""

    name: str
    runner: Runner
    body: dict[str, Any]
    shape: _ChatShape


def _messages(raw: dict[str, JsonValue]) -> list[dict[str, str]]:
    """Ollama makes a message of its own of every part of a message's content."""
    role, content = str(raw.get("role", "")).lower(), raw.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        raise Refused(400, f"invalid message content type: {'<nil>' if content is None else type(content).__name__}")
    messages = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refused(400, "invalid message format")
        messages.append({"role": role, "content": str(part["text"])})
    return messages


def _format(wanted: dict[str, JsonValue]) -> dict[str, Any]:
    if wanted.get("type") == "json_object":
        return constraint("json")
    inner = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and isinstance(inner, dict):
        return constraint(inner.get("schema"))
    return {}


def _model(name: str, file: ModelFile) -> dict[str, Any]:
    owner = name.split("/", maxsplit=1)[0] if "/" in name else "library"
    return {"id": name, "object": "model", "created": int(file.modified_s), "owned_by": owner}


def _usage(end: Finished) -> dict[str, int]:
    total = end.prompt_tokens + end.tokens
    return {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.tokens, "total_tokens": total}


def _logprobs(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    return {"logprobs": {"content": tokens}} if tokens else {}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + to_json(value) + b"\n\n"
