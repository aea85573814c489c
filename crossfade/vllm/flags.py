"""The one place that knows which flag exists in which vLLM: a table for people, and the installed one asked before every start.

Flags come and go with versions. One that is unknown ends a start after its imports, so the command line is compared with what
`--help` of the very environment says. Asking costs those imports too; the answer is kept beside the environment it speaks of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crossfade.errors import ToolMissing, UserError

SINCE: Mapping[str, str] = {
    "--default-chat-template-kwargs": "0.13",
    "--kv-cache-memory-bytes": "0.11",
    "--override-generation-config": "0.7",
    "--reasoning-parser": "0.7",
    "--shutdown-timeout": "0.18",
}
"""First version with a flag that not every vLLM in use has; for messages."""

OPTIONAL: Mapping[str, str] = {"--shutdown-timeout": "answers under way are cut when it is stopped (H14)"}
"""Flags that are left out where they are unknown, and what is lost then. Any other flag that is unknown refuses the start."""

_KEPT = "crossfade-flags.json"
_ASK_S = 180.0
_FLAG = re.compile(r"^  (-.*?)(?:  |$)", re.MULTILINE)
_NAME = re.compile(r"(?:^|, )(--[a-z][a-z0-9-]*)")
_CHOICES = re.compile(r"^  --tool-call-parser \{([^}]*)\}", re.MULTILINE)


@dataclass(frozen=True)
class Accepted:
    """What an installed vLLM accepts. `tool_parsers` is empty where its help does not list them."""

    flags: frozenset[str]
    tool_parsers: frozenset[str]


@dataclass(frozen=True)
class Fitted:
    """A command line the installed vLLM knows, and what had to be left out of it, in words."""

    command: tuple[str, ...]
    left_out: tuple[str, ...]


def accepted_by(help_text: str) -> Accepted:
    """What `--help=all` lists. Flags are at the left margin; the words beside and below them are not looked at."""
    flags = {name for found in _FLAG.finditer(help_text) for name in _NAME.findall(found[1])}
    choices = _CHOICES.search(help_text)
    return Accepted(frozenset(flags), frozenset(choices[1].split(",")) if choices else frozenset())


def fit(command: Sequence[str], accepted: Accepted) -> Fitted:
    """`command` without the optional flags this vLLM does not know. Raises UserError naming every other one, and an unknown tool parser."""
    first = next((at for at, part in enumerate(command) if part.startswith("--")), len(command))
    kept, left_out, unknown = list(command[:first]), [], []
    for option in _options(command[first:]):
        if option[0] in accepted.flags:
            kept += option
        elif option[0] in OPTIONAL:
            left_out.append(f"{option[0]} is unknown to this vLLM{_since(option[0])}: {OPTIONAL[option[0]]}")
        else:
            unknown.append(f"{option[0]}{_since(option[0])}")
        if option[0] == "--tool-call-parser" and accepted.tool_parsers and option[1] not in accepted.tool_parsers:
            raise UserError(
                f"this vLLM has no tool parser {option[1]}. Set target.vllm.tool_parser to none, or to one of "
                f"{', '.join(sorted(accepted.tool_parsers))}."
            )
    if unknown:
        raise UserError(
            f"the installed vLLM does not know {', '.join(unknown)}. Take it out of target.vllm in the plan, or install a vLLM that does: "
            "another lock under deployments/environments, then 'crossfade environment vllm'."
        )
    return Fitted(tuple(kept), tuple(left_out))


def installed_flags(python: Path, env: Mapping[str, str]) -> Accepted:
    """What the vLLM of this environment accepts: asked once, then read from a file in it as long as the same packages are installed.

    Raises ToolMissing when it does not even print its help.
    """
    folder, mark = python.parent.parent, _packages(python)
    kept = _read(folder / _KEPT, mark)
    if kept:
        return kept
    accepted = accepted_by(_help(python, env))
    if not accepted.flags:
        raise ToolMissing(f"the help of vLLM in {folder} lists no flag. Build the environment again: crossfade environment vllm.")
    _write(folder / _KEPT, mark, accepted)
    return accepted


def _options(arguments: Sequence[str]) -> list[list[str]]:
    """Each flag with its values."""
    found: list[list[str]] = []
    for part in arguments:
        if part.startswith("--") or not found:
            found.append([part])
        else:
            found[-1].append(part)
    return found


def _since(flag: str) -> str:
    return f" (it came with {SINCE[flag]})" if flag in SINCE else ""


def _help(python: Path, env: Mapping[str, str]) -> str:
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--help=all"]
    try:
        done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissing(
            f"vLLM in {python.parent.parent} did not print its help: {error}. Build it again: crossfade environment vllm."
        ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ToolMissing(f"vLLM in {python.parent.parent} cannot even print its help: {last}. Build it again: crossfade environment vllm.")
    return done.stdout


def _packages(python: Path) -> str:
    """A digest of what is installed: names and versions, as pip and uv write them into folder names."""
    found = sorted(path.name for path in python.parent.parent.glob("lib/python*/site-packages/*.dist-info"))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _read(path: Path, mark: str) -> Accepted | None:
    try:
        kept = json.loads(path.read_text())
        return Accepted(frozenset(kept["flags"]), frozenset(kept["tool_parsers"])) if kept["packages"] == mark else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, mark: str, accepted: Accepted) -> None:
    """Where the environment is not ours to write, the question is asked again the next time."""
    body = {"packages": mark, "flags": sorted(accepted.flags), "tool_parsers": sorted(accepted.tool_parsers)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        temporary.write_text(json.dumps(body))
        temporary.replace(path)
