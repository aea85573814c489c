"""Which models the stand-in offers: GGUF files under names, and what Ollama would say of them.

Several names may point at one file, as after `ollama cp`: they share a digest and one running instance.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf

from crossfade.errors import UserError

JsonValue = str | int | float | bool | None | list[str] | list[int] | list[float]

NAME = re.compile(r"(?:[\w][\w.:-]{0,349}/)?(?:[\w][\w-]{0,79}/)?[\w][\w.-]{0,79}(?::[\w][\w.-]{0,79})?", re.ASCII)
HIDDEN_KEYS = ("general.name", "tokenizer.chat_template")
"""Ollama takes these out of `model_info`."""


def canonical_name(name: str) -> str:
    """`name` as Ollama looks it up: lower case, default registry and namespace left out, always with a tag; empty if invalid."""
    if not NAME.fullmatch(name):
        return ""
    return displayed_name(name).lower().removeprefix("registry.ollama.ai/").removeprefix("library/")


def displayed_name(name: str) -> str:
    """`name` as listings show it: as it was given, always with a tag."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


@dataclass(frozen=True)
class ModelFile:
    """One GGUF file as Ollama would describe it. `digest` is the file's SHA-256; Ollama has its manifest's there."""

    path: Path
    digest: str
    size_bytes: int
    modified_s: float
    architecture: str
    context_length: int
    parameter_count: int
    quantization: str
    template: str
    info: Mapping[str, JsonValue]
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]

    @property
    def modified_at(self) -> str:
        """Time of the file's last change, RFC 3339."""
        return dt.datetime.fromtimestamp(self.modified_s, dt.UTC).isoformat()

    def details(self) -> dict[str, JsonValue]:
        """The `details` object of the native API."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.architecture,
            "families": [self.architecture],
            "parameter_size": parameter_size(self.parameter_count),
            "quantization_level": self.quantization,
        }

    def model_info(self, *, verbose: bool) -> dict[str, JsonValue]:
        """The GGUF's keys as `/api/show` gives them: lists are null unless verbose."""
        return {key: None if isinstance(value, list) and not verbose else value for key, value in self.info.items()}


class Catalogue:
    """The names the stand-in offers, looked up as Ollama looks names up."""

    def __init__(self, named_files: Iterable[tuple[str, Path]]) -> None:
        files: dict[Path, ModelFile] = {}
        self._offered: dict[str, tuple[str, ModelFile]] = {}
        for name, path in named_files:
            canonical = canonical_name(name)
            if not canonical:
                raise UserError(f"'{name}' is no name Ollama would take for a model. Write NAME or NAME:TAG.")
            resolved = path.resolve()
            if resolved not in files:
                files[resolved] = read_model_file(resolved)
            self._offered[canonical] = (displayed_name(name), files[resolved])

    def find(self, name: str) -> tuple[str, ModelFile] | None:
        """The full name and the file behind any way of writing it, or None."""
        return self._offered.get(canonical_name(name))

    def newest_first(self) -> list[tuple[str, ModelFile]]:
        """All names with their files, in the order of `/api/tags`."""
        return sorted(self._offered.values(), key=lambda item: -item[1].modified_s)

    def files(self) -> tuple[ModelFile, ...]:
        """Each file once."""
        return tuple({file.path: file for _, file in self._offered.values()}.values())


def read_model_file(path: Path) -> ModelFile:
    """What the GGUF file says of itself; raises UserError when it is none."""
    try:
        reader = gguf.GGUFReader(path)
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a GGUF file that can be read: {error}. Give --model NAME=FILE.gguf.") from None
    values: dict[str, JsonValue] = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    architecture = str(values["general.architecture"])
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    template = values.get("tokenizer.chat_template")
    file_type = values.get("general.file_type")
    return ModelFile(
        path=path,
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        modified_s=path.stat().st_mtime,
        architecture=architecture,
        context_length=_whole(values.get(f"{architecture}.context_length"), default=2048),
        parameter_count=parameters,
        quantization=_quantization(_whole(file_type, default=0)),
        template=template if isinstance(template, str) else "",
        info={key: value for key, value in values.items() if key not in HIDDEN_KEYS} | {"general.parameter_count": parameters},
        tensors=tuple((tensor.name, tensor.tensor_type.name, tuple(int(size) for size in tensor.shape)) for tensor in reader.tensors),
    )


def parameter_size(count: int) -> str:
    """A parameter count as Ollama prints it: `8.0B`, `1.90M`."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f}B"
    if count >= 1_000_000:
        return f"{count / 1e6:.2f}M"
    return f"{count / 1e3:.0f}K"


def _quantization(file_type: int) -> str:
    name = gguf.LlamaFileType(file_type).name
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def _whole(value: JsonValue, *, default: int) -> int:
    return value if isinstance(value, int) else default
