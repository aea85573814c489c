"""Which source the lab takes, and that Ollama writes nothing outside the lab."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade.errors import EngineDied
from crossfade.lab.source_choice import create_models, source_name, start_source
from crossfade.lab.stack import Lab, down

SAYS_ITS_ENVIRONMENT = """#!/bin/sh
[ "$1" = create ] && { echo "no room" >&2; exit 1; }
env
echo ready
exec sleep 600
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab")
    (lab.folder / "models").mkdir(parents=True)
    yield lab
    down(lab, print)


@pytest.fixture
def ollama_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double: no Ollama can be installed here, and only its environment is looked at."""
    program = Path(tempfile.mkdtemp(dir=tmp_path)) / "ollama"
    program.write_text(SAYS_ITS_ENVIRONMENT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_without_ollama_the_source_is_called_a_stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_name() == "stand-in for Ollama"


@pytest.mark.usefixtures("ollama_on_path")
def test_ollama_keeps_keys_and_models_in_the_lab(lab: Lab) -> None:
    assert start_source(lab, lab.folder / "weights.gguf") == "Ollama"
    (program,) = lab.running()
    give_up_s = time.monotonic() + 10
    while "ready" not in program.log_tail(200) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    seen = dict(line.split("=", 1) for line in program.log_tail(200).splitlines() if "=" in line)
    assert Path(seen["HOME"]).is_relative_to(lab.folder)
    assert Path(seen["HOME"]).is_dir()
    assert Path(seen["OLLAMA_MODELS"]).is_relative_to(lab.folder)
    assert seen["OLLAMA_HOST"] == f"127.0.0.1:{lab.ports.source}"


@pytest.mark.usefixtures("ollama_on_path")
def test_a_model_ollama_does_not_take_is_said_in_its_words(lab: Lab) -> None:
    with pytest.raises(EngineDied, match="lab:latest: no room"):
        create_models(lab, lab.folder / "weights.gguf")
