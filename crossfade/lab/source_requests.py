"""Requests as Ollama reads them: its fields, its defaults, and its words for what is wrong with them."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


class Refused(Exception):
    """The request ends here with this status and this text in `error`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def keep_alive_s(value: object) -> float:
    """Seconds a model stays loaded; infinite for a negative number. Raises ValueError with Go's words."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return math.inf if value < 0 else float(value)
    if not isinstance(value, str):
        raise ValueError(f"Unsupported type: '{type(value).__name__}'")  # noqa: TRY004 - Pydantic reports only a ValueError
    digits = value.removeprefix("-").removeprefix("+")
    parts = DURATION_PART.findall(digits)
    if digits != "0" and (not parts or "".join(number + unit for number, unit in parts) != digits):
        quoted = json.dumps(value)
        is_number = re.fullmatch(r"[\d.]+", digits)
        raise ValueError(f"time: missing unit in duration {quoted}" if is_number else f"time: invalid duration {quoted}")
    return math.inf if value.startswith("-") else sum(float(number) * UNIT_S[unit] for number, unit in parts)


class Part(BaseModel):
    """Reads JSON as Go does: unknown fields are ignored, wrongly typed ones refused, null means left out."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object) -> object:
        return {key: field for key, field in value.items() if field is not None} if isinstance(value, dict) else value


class Request(Part):
    """A whole request body."""

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The request in `body`; raises Refused with Ollama's status and text."""
        if not body.strip():
            raise Refused(400, "missing request body")
        try:
            value = json.loads(body)
        except ValueError as error:
            at = getattr(error, "pos", 0)
            rest = body.decode(errors="replace")[at : at + 1]
            raise Refused(400, f"invalid character '{rest}' looking for beginning of value" if rest else "unexpected EOF") from None
        if not isinstance(value, dict):
            raise Refused(400, f"json: cannot unmarshal {_go_kind(value)} into Go value of type api.{cls.__name__}")
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise Refused(400, _go_error(cls.__name__, error)) from None


class ShowRequest(Request):
    """POST /api/show."""

    model: str = Field("", validation_alias=AliasChoices("model", "name"))
    verbose: bool = False


class NativeRequest(Request):
    """The fields of both native inference endpoints. Options are checked apart: a wrong type there is status 500."""

    model: str = ""
    stream: bool = True
    format: JsonValue = None
    keep_alive: Annotated[float, BeforeValidator(keep_alive_s)] | None = None
    """None leaves the model's own as the last request set it."""
    options: dict[str, JsonValue] = {}
    think: bool | str = False
    logprobs: bool = False
    top_logprobs: int = 0


class GenerateRequest(NativeRequest):
    """POST /api/generate."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = []
    raw: bool = False
    images: list[str] = []


class Message(Part):
    """One message of a native chat."""

    role: str = ""
    content: str = ""
    images: list[str] = []


class ChatRequest(NativeRequest):
    """POST /api/chat."""

    messages: list[Message] = []
    tools: list[JsonValue] = []


class StreamOptions(Part):
    """How an OpenAI stream ends."""

    include_usage: bool = False


class OpenAiRequest(Request):
    """What Ollama reads of an OpenAI request. `max_completion_tokens`, `n` and others are not here: it ignores them."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: str | list[str] = []


class ChatCompletionRequest(OpenAiRequest):
    """POST /v1/chat/completions."""

    messages: list[dict[str, JsonValue]] = []
    response_format: dict[str, JsonValue] = {}
    tools: list[JsonValue] = []
    logprobs: bool = False
    top_logprobs: int = 0


class CompletionRequest(OpenAiRequest):
    """POST /v1/completions. Unlike OpenAI and vLLM, Ollama puts the chat template around the prompt."""

    prompt: str = ""
    suffix: str = ""


def _go_error(request: str, error: ValidationError) -> str:
    first: Any = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    path = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and part not in ("str", "bool", "list[str]"))
    wanted = {"string_type": "string", "bool_type": "bool", "int_type": "int", "float_type": "float64", "list_type": "[]interface {}"}
    go_type = wanted.get(first["type"], "map[string]interface {}")
    return f"json: cannot unmarshal {_go_kind(first['input'])} into Go struct field {request}.{path} of type {go_type}"


def _go_kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
