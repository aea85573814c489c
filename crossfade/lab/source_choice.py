"""The lab's source: Ollama itself when it is on PATH, else the stand-in over llama.cpp. Both serve the same GGUF."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from crossfade.errors import EngineDied
from crossfade.lab.stack import Lab

_CREATE_S = 120

NAMES = ("lab:latest", "lab-bot:latest")

MODELFILE = '''FROM {weights}
TEMPLATE """{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
"""
PARAMETER stop <|im_end|>
PARAMETER num_ctx 512
'''


def source_name() -> str:
    """What `start_source` would start, for views and reports."""
    return "Ollama" if shutil.which("ollama") else "stand-in for Ollama"


def start_source(lab: Lab, weights: Path) -> str:
    """Start it and return `source_name`. It may still be loading; ask `/api/version` before use."""
    program = shutil.which("ollama")
    if not program:
        models = [argument for name in NAMES for argument in ("--model", f"{name}={weights}")]
        lab.module("source", "crossfade.lab.source", "--port", str(lab.ports.source), *models)
    else:
        lab.start("source", program, "serve", extra=_environment(lab) | {"OLLAMA_NUM_PARALLEL": "4"})
    return source_name()


def create_models(lab: Lab, weights: Path) -> None:
    """Give the running Ollama our model under its names; nothing to do for the stand-in. Raises EngineDied with Ollama's words."""
    program = shutil.which("ollama")
    if not program:
        return
    modelfile = lab.folder / "models" / "Modelfile"
    modelfile.write_text(MODELFILE.format(weights=weights))
    environment = lab.environment() | _environment(lab)
    for name in NAMES:
        command = [program, "create", name, "-f", str(modelfile)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_CREATE_S)
        except subprocess.TimeoutExpired:
            log = lab.home.logs / "source.log"
            raise EngineDied(f"'ollama create {name}' did not end within {_CREATE_S} s. The server's log is {log}.") from None
        if done.returncode:
            raise EngineDied(f"ollama did not take the lab model as {name}: {done.stderr.strip()[-300:]}")


def _environment(lab: Lab) -> dict[str, str]:
    """Ollama keeps keys and history in its HOME; the lab writes nothing outside its folder."""
    home = lab.folder / "ollama" / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {"HOME": str(home), "OLLAMA_HOST": f"127.0.0.1:{lab.ports.source}", "OLLAMA_MODELS": str(lab.folder / "ollama" / "models")}
