"""Where uv may fetch packages from: wherever pip is set up to look.

uv reads none of pip's configuration. On machines with a mirror, a wheel folder or a company certificate that is the
difference between an installation and a riddle, so pip's answer is translated into uv's variables. Standard library
only: `make` uses this before anything else is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

_LISTS = {"extra-index-url": ("UV_EXTRA_INDEX_URL", " "), "find-links": ("UV_FIND_LINKS", ","), "trusted-host": ("UV_INSECURE_HOST", " ")}
"""pip separates with white space; uv's separator differs by variable."""

_SINGLE = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "proxy": ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"),
}

_YES = ("1", "y", "yes", "t", "true", "on")


@dataclass(frozen=True)
class PackageSources:
    """Variables for uv, and the local wheel folders among them. The variables may hold passwords and stay out of `repr`."""

    variables: Mapping[str, str] = field(repr=False)
    wheel_folders: tuple[Path, ...]
    indexes: Literal["allowed", "forbidden"] = "allowed"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `uv pip` must be told on its command line, because uv has no variable for it."""
        return ("--no-index",) if self.indexes == "forbidden" else ()

    def environment(self) -> dict[str, str]:
        """A whole environment for uv; what the user already told uv himself wins over what he told pip."""
        return {**self.variables, **os.environ}


def configured_sources() -> PackageSources:
    """What pip is configured with on this machine: its files and its PIP_ variables, in pip's own order of precedence."""
    return sources_from(_pip_settings())


def sources_from(settings: Mapping[str, str]) -> PackageSources:
    """uv's words for pip's settings (keys as pip writes them: `index-url`, `find-links`)."""
    variables: dict[str, str] = {}
    for key, (variable, separator) in _LISTS.items():
        if settings.get(key):
            variables[variable] = separator.join(settings[key].split())
    for key, names in _SINGLE.items():
        if settings.get(key):
            variables.update(dict.fromkeys(names, settings[key]))
    if "UV_EXTRA_INDEX_URL" in variables:
        # pip takes the best version of all indexes; uv by default stops at the first index that knows the name.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    folders = (_folder(link) for link in settings.get("find-links", "").split())
    # pip reads its switches as words; what it would not take for a yes is a no.
    indexes: Literal["allowed", "forbidden"] = "forbidden" if settings.get("no-index", "").lower() in _YES else "allowed"
    return PackageSources(variables, tuple(folder for folder in folders if folder is not None), indexes)


def _pip_settings() -> dict[str, str]:
    """pip's merged settings; without a pip only its variables are left to ask."""
    for python in dict.fromkeys((sys.executable, os.path.realpath(sys.executable))):
        listing = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
        if listing.returncode == 0:
            return parse_pip_config(listing.stdout)
    return {_key(name.removeprefix("PIP_")): value for name, value in os.environ.items() if name.startswith("PIP_")}


def parse_pip_config(listing: str) -> dict[str, str]:
    """The settings that count for `pip install` out of `pip config list`: variables over [install] over [global]."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, quoted = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections and quoted:
            sections[section][_key(key)] = str(ast.literal_eval(quoted))
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def _key(name: str) -> str:
    return name.lower().replace("_", "-").lstrip("-")


def _folder(link: str) -> Path | None:
    """The local folder a find-links entry means; None for a page on the network."""
    parts = urlsplit(link)
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path) if parts.scheme else link).expanduser()
    return path if path.is_dir() else None
