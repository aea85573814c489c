"""A route folder on a disk that is full to the last byte: nothing rises, and a trip still brings everybody back."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy_rig import eventually

from crossfade import processes
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import PermanentError
from crossfade.rollout.routes import ModelRoute, RouteTable

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode != 0,
    reason="this user may not mount a small disk of its own (unshare -Urm mount -t tmpfs)",
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 2 MiB, seen through a process that has it mounted."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    script = f"mount -t tmpfs -o size=2m tmpfs {mounted} && touch {mounted}/there && exec sleep 600"
    holder = processes.start(
        "disk", ["unshare", "-Urm", "sh", "-c", script], records=tmp_path, log=tmp_path / "disk.log", env=dict(os.environ)
    )
    seen = Path(f"/proc/{holder.pid}/root{mounted}")
    try:
        eventually((seen / "there").exists)
        yield seen
    finally:
        processes.stop(holder, deadline_s=5)


@pytest.fixture
def folder(disk: Path) -> RouteFolder:
    """Half of a model's users are on the target, and another program has taken all the room there was."""
    folder = RouteFolder(disk / "router")
    folder.prepare()
    folder.store(RouteTable().with_route(ModelRoute(name="m", models=("m",), share_bp=5000)), rises=True)
    fill(disk)
    return folder


def fill(disk: Path) -> None:
    with (disk / "fill").open("ab") as open_file:
        subprocess.run(["dd", "if=/dev/zero", "bs=1k"], stdout=open_file, stderr=subprocess.DEVNULL, check=False)
    assert os.statvfs(disk).f_bavail == 0


def test_a_trip_on_a_full_disk_latches_and_puts_everything_on_the_source(folder: RouteFolder) -> None:
    applied = EnvoyRouter(folder.path).trip("m", why="errors", by="guard", at_s=1.0)
    assert applied.table.route("m").share_bp == folder.table().route("m").share_bp == 0
    assert folder.latches()["m"].why == "errors"


def test_a_raise_on_a_full_disk_is_refused_and_leaves_the_room_to_the_way_back(folder: RouteFolder) -> None:
    table = folder.table()
    with pytest.raises(PermanentError, match="No space left"):
        folder.store(table.with_route(table.route("m").model_copy(update={"share_bp": 9000})), rises=True)
    assert folder.table() == table
    assert EnvoyRouter(folder.path).trip("m", why="w", by="guard", at_s=1.0).table.route("m").share_bp == 0


def test_the_room_is_kept_again_once_there_is_some(folder: RouteFolder, disk: Path) -> None:
    EnvoyRouter(folder.path).trip("m", why="w", by="guard", at_s=1.0)
    (disk / "fill").unlink()
    folder.unlatch("m")
    folder.store(folder.table().with_route(ModelRoute(name="n", models=("n",), share_bp=5000)), rises=True)
    with folder.locked(deadline_s=1):
        folder.sweep()  # as every change of a share does first
    fill(disk)
    assert EnvoyRouter(folder.path).trip("n", why="again", by="guard", at_s=time.time()).table.route("n").share_bp == 0


def test_a_router_starts_on_a_disk_without_room_for_its_ballast(disk: Path) -> None:
    folder = RouteFolder(disk / "router")
    fill(disk)
    with (disk / "fill").open("r+b") as filled:
        filled.truncate(filled.seek(0, os.SEEK_END) - 128 * 1024)
    folder.prepare()
    folder.store(RouteTable())
    assert not list(folder.path.glob(".*.tmp"))
