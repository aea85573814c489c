"""Ollama's sampling options in llama.cpp's words, with Ollama's defaults and its complaints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossfade.lab.source_requests import OpenAiRequest, Refused

FLOATS = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
INTEGERS = ("top_k", "seed", "num_predict", "num_keep", "repeat_last_n")

DEFAULTS: Mapping[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,  # since v0.32.10, whose behaviour the stand-in follows; 1.1 before
    "repeat_last_n": 64,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": -1,
    "num_predict": -1,
    "num_keep": 4,
    "stop": [],
}
RENAMED = {"num_predict": "max_tokens", "num_keep": "n_keep"}


def llama_options(options: Mapping[str, object], *, slot_tokens: int) -> dict[str, Any]:
    """All sampling fields of a llama.cpp request, none left to its own defaults; raises Refused (500) for a wrong type."""
    chosen = dict(DEFAULTS)
    for name, value in options.items():
        if value is None or name not in DEFAULTS:
            continue
        _check_type(name, value)
        chosen[name] = int(value) if name in INTEGERS and isinstance(value, float) else value
    if not 0 <= chosen["num_predict"] <= 10 * slot_tokens:
        chosen["num_predict"] = 10 * slot_tokens  # Ollama's bound for "as long as it likes"
    return {RENAMED.get(name, name): value for name, value in chosen.items()}


def openai_options(request: OpenAiRequest) -> dict[str, object]:
    """Ollama's options for an OpenAI request: temperature and top_p become 1.0 when left out, unlike in the native API."""
    return {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "seed": request.seed,
        "num_predict": request.max_tokens,
        "stop": [request.stop] if isinstance(request.stop, str) else list(request.stop),
    }


def constraint(wanted: object) -> dict[str, Any]:
    """llama.cpp's field for Ollama's `format`: "json", a schema, or nothing; raises Refused (500) for anything else.

    Not its OpenAI field `response_format`: plain completions would ignore that one.
    """
    if wanted is None or wanted == "":
        return {}
    if wanted == "json":
        return {"json_schema": {"type": "object"}}
    if isinstance(wanted, dict):
        return {"json_schema": wanted}
    raise Refused(500, f'invalid format: "{wanted}"; expected "json" or a valid JSON Schema object')


def _check_type(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in FLOATS and not is_number:
        raise Refused(500, f'option "{name}" must be of type float32')
    if name in INTEGERS and not is_number:
        raise Refused(500, f'option "{name}" must be of type integer')
    if name == "stop" and not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
        raise Refused(500, 'option "stop" must be of type array')
