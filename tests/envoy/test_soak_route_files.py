"""What becomes of a route file that we did not write, row by row of the table that was measured (facts/router.md, section 3).

The rows about starting with a broken file and about SIGKILL are in `test_life`. What the running Envoy makes of a file is its
own business; each test then shows that ours copes: clients are served as before, and the folder is put right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from envoy_rig import Rig, eventually

from crossfade import processes
from crossfade.envoy import process
from crossfade.envoy.admin import Admin
from crossfade.envoy.binary import STRICT, envoy_binary
from crossfade.envoy.routefile import render
from crossfade.errors import PermanentError, Unreachable
from crossfade.rollout.routes import ModelRoute, RouteTable

pytestmark = pytest.mark.slow

Document = dict[str, Any]


def put(rig: Rig, text: str) -> None:
    """As a stranger would: whole, and renamed into place."""
    temporary = rig.stack.folder / "stranger"
    temporary.write_text(text)
    temporary.rename(rig.stack.folder / "rds.json")


def admin(rig: Rig) -> Admin:
    return Admin(rig.stack.folder / "admin.sock")


def is_live(rig: Rig) -> bool:
    try:
        return admin(rig).live()
    except Unreachable:
        return False


def changed(rig: Rig, edit: Callable[[Document], None]) -> str:
    """The route file in force under a new version, with one edit."""
    document = json.loads((rig.stack.folder / "rds.json").read_text())
    document["version_info"] = "stranger"
    edit(document)
    return json.dumps(document)


def model_route(document: Document) -> Document:
    [host] = document["resources"][0]["virtual_hosts"]
    return next(route for route in host["routes"] if "weighted_clusters" in route["route"])


def split(document: Document) -> list[Document]:
    return model_route(document)["route"]["weighted_clusters"]["clusters"]


def negative_weight(document: Document) -> None:
    split(document)[0]["weight"] = -1


def weights_of_zero(document: Document) -> None:
    for cluster in split(document):
        cluster["weight"] = 0


def wrong_name(document: Document) -> None:
    document["resources"][0]["name"] = "other"


def unknown_cluster(document: Document) -> None:
    split(document)[0]["name"] = "nowhere"


def misspelt_field(document: Document) -> None:
    model_route(document)["route"]["timeuot"] = "0s"


REFUSED = [negative_weight, weights_of_zero, wrong_name, unknown_cluster, misspelt_field]


@pytest.fixture
def ramped_rig(rig):
    """Two generations, so that there is something to go back to; all requests on the target."""
    rig.route(10_000)
    rig.route(10_000)
    return rig


def assert_still_served_and_put_right(rig: Rig) -> None:
    before = rig.router.observed()
    assert before.generation == 2
    assert rig.engines(20) == {"target": 20}
    with pytest.raises(PermanentError, match="Starting the router again restores"):
        rig.router.apply(ModelRoute(name="m", models=("m",), share_bp=5), expect=2)
    rig.start()
    assert rig.router.table() == rig.router.observed() == RouteTable(generation=3, routes=before.routes)
    rig.route(0)
    assert rig.engines(10) == {"source": 10}


@pytest.mark.parametrize("edit", REFUSED, ids=lambda edit: edit.__name__)
def test_a_table_that_envoy_refuses_leaves_the_one_before_in_force(ramped_rig, edit):
    refused = admin(ramped_rig).updates().refused
    put(ramped_rig, changed(ramped_rig, edit))
    eventually(lambda: admin(ramped_rig).updates().refused > refused)
    assert_still_served_and_put_right(ramped_rig)


@pytest.mark.parametrize("text", ["{", "", "[]", "\0\0\0\0", "half"], ids=["brace", "empty", "list", "zeros", "half"])
def test_a_text_that_is_no_route_file_leaves_the_table_before_in_force(ramped_rig, text):
    refused = admin(ramped_rig).updates().refused
    whole = (ramped_rig.stack.folder / "rds.json").read_text()
    put(ramped_rig, whole[: len(whole) // 2] if text == "half" else text)
    eventually(lambda: admin(ramped_rig).updates().refused > refused)
    assert_still_served_and_put_right(ramped_rig)


def test_a_file_without_routes_changes_the_version_that_envoy_names_and_nothing_else(ramped_rig):
    put(ramped_rig, json.dumps({"version_info": "g9-000000000000", "resources": []}))
    eventually(lambda: admin(ramped_rig).updates().version == "g9-000000000000")
    assert_still_served_and_put_right(ramped_rig)


def test_a_deleted_file_changes_nothing(ramped_rig):
    (ramped_rig.stack.folder / "rds.json").unlink()
    assert_still_served_and_put_right(ramped_rig)


def test_a_file_written_in_place_is_not_noticed_until_the_next_change(ramped_rig):
    table = ramped_rig.router.table()
    other = RouteTable(generation=3, routes=(table.route("m").model_copy(update={"share_bp": 0}),))
    (ramped_rig.stack.folder / "rds.json").write_text(render(other))
    assert ramped_rig.engines(200) == {"target": 200}
    assert (ramped_rig.router.table(), ramped_rig.router.observed()) == (other, table)
    ramped_rig.route(1)
    assert ramped_rig.router.table() == ramped_rig.router.observed()
    assert ramped_rig.router.observed().generation == 4


def test_of_many_renames_back_to_back_the_last_one_wins(ramped_rig):
    route = ramped_rig.router.table().route("m")
    for generation in range(3, 203):
        share_bp = 0 if generation % 2 == 0 else 10_000
        put(ramped_rig, render(RouteTable(generation=generation, routes=(route.model_copy(update={"share_bp": share_bp}),))))
    eventually(lambda: ramped_rig.router.observed() == ramped_rig.router.table())
    assert ramped_rig.router.observed().generation == 202
    assert ramped_rig.engines(10) == {"source": 10}


def test_other_content_under_the_same_version_is_taken_by_envoy_and_seen_by_us(ramped_rig):
    """Which is why our version holds a hash of the content."""
    text = (ramped_rig.stack.folder / "rds.json").read_text()
    document = json.loads(text)
    split(document)[0]["weight"], split(document)[1]["weight"] = 0, 10_000
    put(ramped_rig, json.dumps(document))
    eventually(lambda: ramped_rig.engines(1) == {"source": 1})
    assert ramped_rig.router.observed().generation == 2
    with pytest.raises(PermanentError, match="do not belong together"):
        ramped_rig.router.table()
    ramped_rig.start()
    assert ramped_rig.router.table() == ramped_rig.router.observed()
    assert ramped_rig.engines(10) == {"target": 10}


def test_envoy_alone_would_answer_404_to_everything_after_a_start_with_a_broken_file(ramped_rig):
    """Why `start` checks and restores the file first; that is shown in `test_life`."""
    ramped_rig.kill()
    put(ramped_rig, "{")
    folder = ramped_rig.stack.folder
    command = [str(envoy_binary()), "-c", str(folder / "bootstrap.json"), STRICT, "--disable-hot-restart", "--concurrency", "1"]
    processes.start(process.NAME, command, records=ramped_rig.home.processes, log=folder / "envoy.log", env={})
    eventually(lambda: is_live(ramped_rig))
    assert ramped_rig.engines(5) == {"404": 5}
    ramped_rig.start()
    assert ramped_rig.engines(5) == {"target": 5}
