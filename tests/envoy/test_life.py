"""Starting, adopting, crashing, and refusing to start."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import replace

import pytest

from crossfade import processes
from crossfade.envoy import crew, process
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.routefile import render
from crossfade.envoy.stack import Stack
from crossfade.errors import UserError
from crossfade.home import Home


def test_a_killed_router_comes_back_with_the_same_shares(rig):
    rig.route(10_000)
    rig.route(2500, name="other")
    before = rig.router.observed()
    rig.kill()
    rig.start()
    assert rig.router.observed() == before
    assert rig.engines(10) == {"target": 10}


def test_a_running_router_is_adopted(rig):
    assert process.start(rig.stack, rig.home) == rig.program


def test_another_stack_is_refused_while_a_router_runs(rig):
    with pytest.raises(UserError, match=rf"already runs \(pid {rig.program.pid}.*crossfade down"):
        process.start(replace(rig.stack, target="127.0.0.1:9"), rig.home)
    assert rig.program.alive()


def test_engines_may_be_given_by_name(cold_rig):
    source, target = (address.replace("127.0.0.1", "localhost") for address in (cold_rig.stack.source, cold_rig.stack.target))
    cold_rig.stack = replace(cold_rig.stack, source=source, target=target)
    cold_rig.start()
    assert cold_rig.engines(10) == {"source": 10}
    cold_rig.route(10_000)
    assert cold_rig.engines(10) == {"target": 10}
    assert cold_rig.target.seen[-1][2] == target


def test_a_taken_port_is_refused_with_the_name_of_its_holder(cold_rig):
    address = cold_rig.stack.listen
    taken = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])), reuse_port=True)
    with taken, pytest.raises(UserError, match=rf"cannot listen on {address}: Address already in use by .*\(pid \d+\)"):
        cold_rig.start()
    assert not cold_rig.stack.folder.joinpath("bootstrap.json").exists()


def test_a_route_file_of_another_version_of_ours_is_written_anew(rig):
    rig.route(5000)
    rig.kill()
    file = rig.stack.folder / "rds.json"
    table = rig.router.table()
    file.write_text(file.read_text().replace(" ", "  "))
    rig.start()
    assert file.read_text() == render(table)


def test_the_admin_socket_is_for_this_user_alone(rig):
    mode = rig.stack.folder.joinpath("admin.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o777 == 0o600


def test_a_folder_too_deep_for_a_socket_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="too long for a unix socket"):
        Stack("127.0.0.1:1000", "127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003", tmp_path / ("x" * 100))


def test_files_are_kept_while_a_process_is_there_that_cannot_be_told(tmp_path):
    """It may just have been started: the kernel shows its arguments a moment later than its starter goes on."""
    home = Home(tmp_path)
    folder = RouteFolder(home.router)
    folder.prepare()
    bootstrap = folder.path / "bootstrap-0123456789ab.json"
    bootstrap.write_text("{}")
    nameless = processes.start(crew.NEXT, ["sleep", "60"], records=home.processes, log=tmp_path / "log", env={"PATH": os.environ["PATH"]})
    try:
        crew.tidy(folder, home)
        assert bootstrap.exists()
    finally:
        processes.stop(nameless, deadline_s=1)
    crew.tidy(folder, home)
    assert not bootstrap.exists()
