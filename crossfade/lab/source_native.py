"""Ollama's native API over the stand-in's models. Wording, statuses and defaults follow Ollama v0.32.10."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from crossfade.lab.source_answers import EventStream, Stock, begin, chain, gather, json_response, now_rfc3339, to_json
from crossfade.lab.source_models import ModelFile
from crossfade.lab.source_options import constraint, llama_options
from crossfade.lab.source_requests import ChatRequest, GenerateRequest, NativeRequest, Refused, ShowRequest
from crossfade.lab.source_runner import Finished, GenerationRequest, Piece, Runner, RunnerRefused

VERSION = "0.32.10+crossfade-stand-in"
LONGEST = dt.timedelta(microseconds=(2**63 - 1) // 1000)
"""Go's longest duration, some 292 years: the expiry of a model that stays loaded."""

NOT_HERE = ("pull", "push", "create", "copy", "delete", "embed", "embeddings")


def native_routes(stock: Stock) -> list[Route]:
    """The routes of `/` and `/api/*`."""
    native = _Native(stock)
    absent = [Route(f"/api/{name}", _not_here, methods=["POST", "DELETE"] if name == "delete" else ["POST"]) for name in NOT_HERE]
    return [
        Route("/", _running, methods=["GET"]),
        Route("/api/version", _version, methods=["GET"]),
        Route("/api/tags", native.tags, methods=["GET"]),
        Route("/api/ps", native.ps, methods=["GET"]),
        Route("/api/show", native.show, methods=["POST"]),
        Route("/api/chat", native.chat, methods=["POST"]),
        Route("/api/generate", native.generate, methods=["POST"]),
        *absent,
    ]


async def _running(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return json_response({"version": VERSION})


async def _not_here(request: Request) -> Response:
    await request.body()
    raise Refused(501, f"the Crossfade stand-in has no {request.url.path}; use a real Ollama")


class _Native:
    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    async def tags(self, _: Request) -> Response:
        models = self._stock.catalogue.newest_first()
        return json_response({"models": [_entry(name, file) | {"modified_at": file.modified_at} for name, file in models]})

    async def ps(self, _: Request) -> Response:
        loaded = sorted((runner for runner in self._stock.runners.values() if runner.loaded), key=lambda runner: -runner.expires_s)
        return json_response({"models": [_loaded(runner) for runner in loaded]})

    async def show(self, request: Request) -> Response:
        asked = ShowRequest.read(await request.body())
        if not asked.model:
            raise Refused(400, "model is required")
        _, file, _ = self._stock.find(asked.model)
        return json_response(
            {
                "modelfile": f"# A stand-in's model: no layers, no parameters\nFROM {file.path}\n",
                "template": file.template,
                "details": file.details(),
                "model_info": file.model_info(verbose=asked.verbose),
                "tensors": [{"name": name, "type": stored_as, "shape": shape} for name, stored_as, shape in file.tensors],
                "capabilities": ["completion"],
                "modified_at": file.modified_at,
            }
        )

    async def chat(self, request: Request) -> Response:
        asked = ChatRequest.read(await request.body())
        if not asked.model:
            raise Refused(400, "model is required")
        name, _, runner = self._stock.find(asked.model)
        _refuse_unable(asked, name, tools=bool(asked.tools), vision=any(message.images for message in asked.messages))
        if not asked.messages:
            return await _load_only(asked, name, runner, {"message": {"role": "assistant", "content": ""}})
        messages = [{"role": message.role.lower(), "content": message.content} for message in asked.messages]
        return await _answer(request, asked, name, runner, GenerationRequest("/v1/chat/completions", {"messages": messages}), chat=True)

    async def generate(self, request: Request) -> Response:
        asked = GenerateRequest.read(await request.body())
        name, _, runner = self._stock.find(asked.model)
        if asked.raw and (asked.template or asked.system or asked.context):
            raise Refused(400, "raw mode does not support template, system, or context")
        _refuse_unable(asked, name, vision=bool(asked.images), insert=bool(asked.suffix))
        if asked.template or asked.context:
            raise Refused(501, "the Crossfade stand-in has no template and no context; use a real Ollama")
        if not asked.prompt:
            return await _load_only(asked, name, runner, {"response": ""})
        if asked.raw:
            return await _answer(request, asked, name, runner, GenerationRequest("/v1/completions", {"prompt": asked.prompt}), chat=False)
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        messages = [*system, {"role": "user", "content": asked.prompt}]
        return await _answer(request, asked, name, runner, GenerationRequest("/v1/chat/completions", {"messages": messages}), chat=False)


def _entry(name: str, file: ModelFile) -> dict[str, Any]:
    return {"name": name, "model": name, "size": file.size_bytes, "digest": file.digest, "details": file.details()}


def _loaded(runner: Runner) -> dict[str, Any]:
    forever = math.isinf(runner.keep_alive_s)
    expires = dt.datetime.now(dt.UTC) + LONGEST if forever else dt.datetime.fromtimestamp(runner.expires_s, dt.UTC)
    entry = _entry(runner.name, runner.file)
    return entry | {"expires_at": expires.isoformat(), "size_vram": 0, "context_length": runner.slot_tokens}


def _refuse_unable(asked: NativeRequest, name: str, **wanted: bool) -> None:
    """The lab's models can complete and nothing else."""
    for capability, is_wanted in wanted.items():
        if is_wanted:
            raise Refused(400, f"registry.ollama.ai/library/{name} does not support {capability}")
    if asked.think:
        raise Refused(400, f'"{asked.model}" does not support thinking')
    if not 0 <= asked.top_logprobs <= 20:
        raise Refused(400, "top_logprobs must be between 0 and 20")


async def _load_only(asked: NativeRequest, name: str, runner: Runner, nothing: dict[str, Any]) -> Response:
    """An empty request loads or unloads the model: one object, also for a stream."""
    reason = "load"
    if asked.keep_alive == 0:
        reason = "unload"
        runner.unload_when_idle()
    else:
        async with runner.in_use(name, asked.keep_alive):
            pass
    return json_response({"model": asked.model, "created_at": now_rfc3339(), **nothing, "done": True, "done_reason": reason})


async def _answer(request: Request, asked: NativeRequest, name: str, runner: Runner, wanted: GenerationRequest, *, chat: bool) -> Response:
    options = llama_options(asked.options, slot_tokens=runner.slot_tokens) | constraint(asked.format)
    if asked.logprobs:
        options |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    events = runner.generate(GenerationRequest(wanted.path, wanted.body | options), name, asked.keep_alive)
    if asked.stream:
        first = await begin(request, events)
        return EventStream(_lines(chain(first, events), asked.model, chat=chat), events, "application/x-ndjson")
    text, logprobs, end = await gather(request, events)
    return json_response(_chunk(asked.model, text, chat=chat) | _logprobs(logprobs) | _end(end))


async def _lines(events: AsyncIterator[Piece | Finished], model: str, *, chat: bool) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            if isinstance(event, Finished):
                yield to_json(_chunk(model, "", chat=chat) | _end(event)) + b"\n"
            else:
                yield to_json(_chunk(model, event.text, chat=chat) | {"done": False} | _logprobs(list(event.logprobs))) + b"\n"
    except RunnerRefused as error:  # the status has gone out: the last line says it, and no line says done
        yield to_json({"error": error.text}) + b"\n"


def _chunk(model: str, text: str, *, chat: bool) -> dict[str, Any]:
    body = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    return {"model": model, "created_at": now_rfc3339(), **body}


def _end(end: Finished) -> dict[str, Any]:
    counts = {
        "total_duration": end.total_ns,
        "load_duration": end.load_ns,
        "prompt_eval_count": end.prompt_tokens,
        "prompt_eval_duration": end.prompt_ns,
        "eval_count": end.tokens,
        "eval_duration": end.eval_ns,
    }
    return {"done": True, "done_reason": end.reason, **{key: value for key, value in counts.items() if value}}


def _logprobs(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    if not tokens:
        return {}
    return {"logprobs": [_token(token) | {"top_logprobs": [_token(top) for top in token.get("top_logprobs", ())]} for token in tokens]}


def _token(token: dict[str, Any]) -> dict[str, Any]:
    return {key: token[key] for key in ("token", "logprob", "bytes")}
