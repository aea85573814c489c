"""Any list of routes and shares is one that the real Envoy takes, and whose dump reads back equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from envoy_rig import Rig, eventually
from hypothesis import given, settings
from hypothesis import strategies as st
from route_tables import MORE_TARGETS, tables

from crossfade.envoy.admin import Admin
from crossfade.envoy.binary import validate
from crossfade.envoy.folder import RouteFolder
from crossfade.envoy.routefile import version
from crossfade.rollout.routes import RouteTable


@pytest.fixture(scope="module")
def many_targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("r"))
    rig.stack = replace(rig.stack, more_targets=dict.fromkeys(MORE_TARGETS, rig.target.address))
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


@given(table=tables())
@settings(max_examples=60)
def test_the_running_envoy_takes_it_and_its_dump_reads_back_equal(many_targets: Rig, table: RouteTable):
    folder = RouteFolder(many_targets.stack.folder)
    admin = Admin(folder.admin_socket)
    refused = admin.updates().refused
    folder.store(table)
    eventually(lambda: admin.updates().version == version(table) or admin.updates().refused > refused)
    assert admin.updates().refused == refused, folder.log_file.read_text()[-500:]
    assert admin.routes() == table == folder.table()


@given(several=st.lists(tables(), min_size=1, max_size=8))
@settings(max_examples=8)
def test_the_preflight_finds_nothing_wrong_with_it(many_targets: Rig, several: list[RouteTable]):
    """Several at once, one after the other in one table: a run of Envoy takes a sixth of a second."""
    bootstrap = RouteFolder(many_targets.stack.folder).bootstrap_file.read_text()
    routes = {f"{number}.{route.name}"[:80]: route for number, table in enumerate(several) for route in table.routes}
    joined = []
    for name, route in routes.items():
        own = tuple(f"{name}/{model}" for model in route.models)
        joined.append(route.model_copy(update={"name": name, "models": own}))
    validate(bootstrap, RouteTable(routes=tuple(joined)))
