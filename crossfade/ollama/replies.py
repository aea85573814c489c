"""What Ollama's native API says, parsed once at the edge. Fields nobody here needs are left where they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

from crossfade.assess.shape import Shape, shape_from_gguf

Item = TypeVar("Item")


@dataclass(frozen=True)
class SourceModel:
    """One name the source serves. Names with the same digest are aliases of one model. Ollama prints sizes as `8.0B`, `Q4_K_M`."""

    name: str
    digest: str
    size_bytes: int
    family: str
    parameter_size: str
    quantization_level: str


@dataclass(frozen=True)
class Parameter:
    """One PARAMETER line of a Modelfile; a name may come several times (`stop`)."""

    name: str
    value: str


@dataclass(frozen=True)
class ModelDescription:
    """What the source says of one model. None stands for what it does not say.

    `context_length` is what the model was trained for; what a running instance has is in LoadedModel. `template` may be a
    Go template or a Jinja one. `system` is prepended by the source to chats that bring none; weights do not carry it.
    """

    name: str
    shape: Shape
    context_length: int | None
    parameter_count: int | None
    parameter_size: str
    quantization_level: str
    capabilities: tuple[str, ...]
    template: str
    system: str
    parameters: tuple[Parameter, ...]

    @property
    def num_ctx(self) -> int | None:
        """The context its Modelfile asks for, at most the one it was made for; None when Ollama decides."""
        asked = next((int(one.value) for one in self.parameters if one.name == "num_ctx" and one.value.isdecimal()), 0)
        return min(asked, self.context_length or asked) or None


@dataclass(frozen=True)
class LoadedModel:
    """A model in the source's memory. `vram_bytes` below `size_bytes` means that part of it runs on the CPU."""

    name: str
    digest: str
    size_bytes: int
    vram_bytes: int
    context_length: int | None
    expires_at: dt.datetime


def _list_or_nothing(value: object) -> object:
    """Go writes an empty list as null."""
    return [] if value is None else value


def _go_time(value: object) -> object:
    """Python reads six digits of a second, Go writes nine."""
    if not isinstance(value, str) or "." not in value:
        return value
    seconds, _, rest = value.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return f"{seconds}.{digits[:6]}{rest[len(digits) :]}"


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class VersionReply(_Reply):
    """GET /api/version."""

    version: str


class Details(_Reply):
    """The `details` object; every field may be missing for a model Ollama did not convert itself."""

    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""


class TagsEntry(_Reply):
    """One model of GET /api/tags."""

    name: str
    digest: str = ""
    size: int = 0
    details: Details = Details()

    def model(self) -> SourceModel:
        """The entry in our words."""
        about = self.details
        return SourceModel(self.name, self.digest, self.size, about.family, about.parameter_size, about.quantization_level)


class TagsReply(_Reply):
    """GET /api/tags."""

    models: Annotated[list[TagsEntry], BeforeValidator(_list_or_nothing)]


class LoadedEntry(_Reply):
    """One model of GET /api/ps."""

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    context_length: int | None = None
    expires_at: Annotated[dt.datetime, BeforeValidator(_go_time)]

    def model(self) -> LoadedModel:
        """The entry in our words."""
        return LoadedModel(self.name, self.digest, self.size, self.size_vram, self.context_length, self.expires_at)


class LoadedReply(_Reply):
    """GET /api/ps."""

    models: Annotated[list[LoadedEntry], BeforeValidator(_list_or_nothing)]


class ShowReply(_Reply):
    """POST /api/show."""

    details: Details = Details()
    model_info: Mapping[str, JsonValue] = {}
    capabilities: Annotated[list[str], BeforeValidator(_list_or_nothing)] = []
    template: str = ""
    system: str = ""
    parameters: str = ""

    def description(self, name: str) -> ModelDescription:
        """The reply in our words."""
        shape = shape_from_gguf(self.model_info)
        return ModelDescription(
            name=name,
            shape=shape,
            context_length=_whole(self.model_info.get(f"{shape.architecture}.context_length")),
            parameter_count=_whole(self.model_info.get("general.parameter_count")),
            parameter_size=self.details.parameter_size,
            quantization_level=self.details.quantization_level,
            capabilities=tuple(self.capabilities),
            template=self.template,
            system=self.system,
            parameters=parse_parameters(self.parameters),
        )


class _Message(_Reply):
    content: str | None = None


class _Choice(_Reply):
    message: _Message
    finish_reason: str | None = None


class ChatReply(_Reply):
    """POST /v1/chat/completions, not streamed."""

    choices: list[_Choice]


def parse_parameters(text: str) -> tuple[Parameter, ...]:
    """The lines of `parameters` in /api/show, sorted: Ollama's own order changes from call to call."""
    found = []
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.append(Parameter(name, _unquoted(value.strip())))
    return tuple(sorted(found, key=lambda parameter: (parameter.name, parameter.value)))


def _unquoted(value: str) -> str:
    """Strings are quoted as Go quotes them; for the escapes it uses that is JSON."""
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    try:
        return _JsonString.model_validate_json(f'{{"value": {value}}}').value
    except ValueError:
        return value[1:-1]


class _JsonString(_Reply):
    value: str


def _whole(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
