"""Install Crossfade and its locked dependencies into the environment that runs this. Run by `make setup`, after uv.

uv instead of pip because it takes seconds instead of a minute; it looks where pip is configured to look.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path.insert(0, str(CHECKOUT))  # Crossfade itself is not installed yet

from crossfade.runtime.package_sources import configured_sources  # noqa: E402
from crossfade.runtime.uv_command import UvFailed, run_uv  # noqa: E402


def main() -> None:
    """Dependencies first, Crossfade itself as a link to this checkout last; ends with uv's own words when it fails."""
    try:
        for what in (("--requirement", str(HERE / "crossfade.lock.txt")), ("--editable", str(CHECKOUT))):
            run_uv(
                ("pip", "install", "--python", sys.executable, "--no-deps", "--compile-bytecode", *what),
                sources=configured_sources(),
                cwd=CHECKOUT,
                say=lambda line: print(f"setup: {line}", flush=True),
            )
    except UvFailed as failure:
        sys.exit(
            f"setup: uv failed:\n{failure.tail}\nPackages come from where pip is configured to look ('python -m pip config list'): "
            "check that this machine reaches it, then run the same command again."
        )


if __name__ == "__main__":
    main()
