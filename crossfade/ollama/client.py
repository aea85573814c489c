"""The source as tasks ask it: what it has, what it has loaded, and its answers."""

from __future__ import annotations

import time
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from crossfade.assess.inventory import SourceFacts
from crossfade.errors import PermanentError, Unreachable, UserError
from crossfade.ollama.replies import (
    ChatReply,
    LoadedModel,
    LoadedReply,
    ModelDescription,
    ShowReply,
    SourceModel,
    TagsReply,
    VersionReply,
)
from crossfade.ports import Completion
from crossfade.rollout.routes import canonical

Reply = TypeVar("Reply", bound=BaseModel)

STAND_IN_HEADER = "X-Crossfade-Stand-In"


class OllamaSource:
    """An Ollama server under `url`. Safe to use from several threads; close it, or use it as a context manager.

    Every method raises Unreachable when the server cannot be reached, answers later than `timeout_s`, or answers with a
    status of 500 and more; UserError when a model is asked for that it does not have; PermanentError when what answers is
    not Ollama or refuses the request. It never pulls, creates or deletes anything. The constructor asks nothing, and raises
    UserError when `url` is no address.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        # The router talks to this very address and knows no proxy, so neither may this client.
        self._http = httpx.Client(base_url=_checked(self.url), timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def version(self) -> str:
        """What the server calls its version."""
        return self._ask("GET", "/api/version", VersionReply).version

    def is_stand_in(self) -> bool:
        """Whether this is the lab's stand-in and no Ollama."""
        return STAND_IN_HEADER in self._send("GET", "/api/version", None).headers

    def inventory(self) -> tuple[SourceModel, ...]:
        """Everything it can serve, newest first; two names with one digest are aliases."""
        return tuple(entry.model() for entry in self._ask("GET", "/api/tags", TagsReply).models)

    def models(self) -> tuple[str, ...]:
        """The names of `inventory`."""
        return tuple(model.name for model in self.inventory())

    def describe(self, name: str) -> ModelDescription:
        """What it says of one model. Nothing is loaded by asking."""
        return self._ask("POST", "/api/show", ShowReply, {"model": name}, model=name).description(name)

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is in its memory now, longest-lived first."""
        return tuple(entry.model() for entry in self._ask("GET", "/api/ps", LoadedReply).models)

    def facts(self, name: str) -> SourceFacts:
        """What the assessment wants to know of one model. Nothing is loaded by asking."""
        installed = self.inventory()
        about = self.describe(name)
        entry = next((model for model in installed if canonical(model.name) == canonical(name)), None)
        running = next((model for model in self.loaded() if entry and model.digest == entry.digest), None)
        stand_in = self.is_stand_in()
        version = self.version()
        return SourceFacts(
            version=version.partition("+")[0] if stand_in else version,  # its label repeats what `stand_in` says
            model=name,
            digest=entry.digest if entry else "",
            parameter_size=about.parameter_size,
            quantization=about.quantization_level,
            context=running.context_length if running and running.context_length else about.num_ctx,
            capabilities=about.capabilities or ("completion",),  # servers before v0.6.4 do not say
            installed=tuple(model.name for model in installed),
            shape=about.shape,
            stand_in=stand_in,
        )

    def keep_warm(self, name: str) -> None:
        """Load the model if it is not loaded, and keep it so until somebody says otherwise (promise 6). Idempotent.

        A later request with a `keep_alive` of its own ends that, so callers repeat this on every visit.
        """
        self._send("POST", "/api/generate", {"model": name, "keep_alive": -1, "stream": False}, model=name)

    def complete(self, model: str, prompt: str, *, max_tokens: int) -> Completion:
        """Greedy answer to one user message, through the OpenAI endpoint so that both engines are asked alike.

        `seconds` is the whole request as its client sees it, waiting and loading included.
        """
        wanted: dict[str, JsonValue] = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": 0,
            "max_tokens": max_tokens,
            "stream": False,
        }
        began_s = time.monotonic()
        reply = self._ask("POST", "/v1/chat/completions", ChatReply, wanted, model=model)
        seconds = time.monotonic() - began_s
        if not reply.choices:
            raise PermanentError(f"{self.url} answered without a choice for {model}. Check that it is an Ollama server.")
        choice = reply.choices[0]
        return Completion(text=choice.message.content or "", finish=choice.finish_reason or "", seconds=seconds)

    def _ask(self, method: str, path: str, shape: type[Reply], body: dict[str, JsonValue] | None = None, *, model: str = "") -> Reply:
        response = self._send(method, path, body, model=model)
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole reply"
            raise PermanentError(
                f"{self.url}{path} did not answer as Ollama does: {where}: {first['msg']}. Check source.url in the plan."
            ) from None

    def _send(self, method: str, path: str, body: dict[str, JsonValue] | None, *, model: str = "") -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TimeoutException:
            raise Unreachable(
                f"The source {self.url} did not answer {path} within {self._timeout_s:g} s. Check its load, or that it is running."
            ) from None
        except httpx.HTTPError as error:
            raise Unreachable(f"The source {self.url} cannot be reached: {error}. Start Ollama, or correct source.url.") from None
        if response.is_success:
            return response
        said = _error_text(response)
        if response.status_code >= 500:
            raise Unreachable(f"The source {self.url} answered {path} with {response.status_code}: {said}. Look into its log.")
        if response.status_code == 404 and model:
            raise self._no_such_model(model)
        if response.status_code == 403:
            said = said or "it takes only local Host headers; set OLLAMA_HOST=0.0.0.0 on it, or ask it under its own address"
        raise PermanentError(f"The source {self.url} refused {path} with {response.status_code}: {said}. Check source.url in the plan.")

    def _no_such_model(self, name: str) -> UserError:
        names = ", ".join(self.models()) or "no model at all"
        return UserError(f"The source {self.url} has no model '{name}'. It has: {names}. Correct the plan, or 'ollama pull {name}'.")


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"'{url}' is no address: {error}. Write source.url as http://HOST:PORT.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"'{url}' is no web address. Write source.url as http://HOST:PORT.")
    return parsed


class _ErrorReply(BaseModel):
    """Ollama's own errors are text, those of its OpenAI endpoints an object."""

    error: str | _OpenAiError


class _OpenAiError(BaseModel):
    message: str


def _error_text(response: httpx.Response) -> str:
    try:
        error = _ErrorReply.model_validate_json(response.content).error
    except ValidationError:
        return response.text.strip()[:200]
    return error if isinstance(error, str) else error.message
