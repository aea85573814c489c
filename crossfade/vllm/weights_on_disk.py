"""What a folder of weights says about how it wants to be served: its type and its chat template."""

from __future__ import annotations

import json
from pathlib import Path

from crossfade.assess.families import Parsers, parsers_for
from crossfade.errors import UserError
from crossfade.weights import load_manifest


def parsers_of(weights: Path, template: Path | None) -> Parsers:
    """The parsers for these weights, served with `template` or, without one, their own. Raises WeightsInvalid or UserError."""
    manifest = load_manifest(weights)
    config = _json(weights / "config.json")
    model_type = config.get("model_type")
    repo = (manifest.base or manifest.repo).partition("@")[0]
    return parsers_for(model_type if isinstance(model_type, str) else "", repo, _read(template) if template else own_template(weights))


def own_template(weights: Path) -> str:
    """The chat template that came with the weights; empty for a model that has none. Newer repositories have it in a file of its own."""
    file = weights / "chat_template.jinja"
    if file.exists():
        return _read(file)
    written = _json(weights / "tokenizer_config.json").get("chat_template")
    return written if isinstance(written, str) else json.dumps(written) if written else ""


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # vLLM's own diagnosis says more about what is broken there
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the chat template {path}: {error}. Check target.vllm.chat_template in the plan.") from None
