"""Resolve the lock of every environment anew, from where pip is configured to look. Run by `make locks`.

The result names versions only: no index, host, folder or path. It holds for Linux and every Python from 3.11 on.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import uv

from crossfade.runtime.package_sources import configured_sources

HERE = Path(__file__).resolve().parent
OWN = HERE.parents[1] / "pyproject.toml"
SETTINGS = ("--universal", "--python-version", "3.11", "--no-annotate", "--no-header", "--upgrade", "--quiet")

EXTRAS = ("lab", "dev", "postgres", "gpu")


def main() -> None:
    """Write crossfade.lock.txt from pyproject.toml, and NAME.lock.txt from each NAME.in with its NAME.overrides.txt."""
    compile_lock("crossfade", str(OWN), *(part for extra in EXTRAS for part in ("--extra", extra)))
    for requirements in sorted(HERE.glob("*.in")):
        overrides = requirements.with_suffix(".overrides.txt")
        more = ("--overrides", str(overrides)) if overrides.exists() else ()
        compile_lock(requirements.stem, str(requirements), *more)


def compile_lock(name: str, *arguments: str) -> None:
    """One lock; torch's CPU build from PyTorch's own index where pip is not configured with a place that has it."""
    lock = HERE / f"{name}.lock.txt"
    sources = configured_sources()
    command = [uv.find_uv_bin(), "pip", "compile", *SETTINGS, *sources.arguments, *arguments, "--output-file", str(lock)]
    environment = sources.environment()
    print(f"locks: {lock.name}", flush=True)
    if subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
        subprocess.run([*command, "--torch-backend", "cpu"], env=environment, check=True)


if __name__ == "__main__":
    main()
