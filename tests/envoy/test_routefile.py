from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from route_tables import models, tables

from crossfade.envoy.routefile import Unreadable, parse, parse_dump, render, route_config, spellings, version
from crossfade.rollout.routes import ModelRoute, RouteTable, canonical


@given(tables())
def test_a_table_reads_back_equal_from_its_file_and_from_a_dump(table):
    assert parse(render(table)) == table
    dumped = {"configs": [{"version_info": version(table), "route_config": route_config(table)}]}
    assert parse_dump(json.dumps(dumped)) == table


@given(tables())
def test_the_two_shares_of_every_route_sum_to_10000(table):
    for route in json.loads(render(table))["resources"][0]["virtual_hosts"][0]["routes"]:
        if split := route["route"].get("weighted_clusters"):
            assert sum(cluster["weight"] for cluster in split["clusters"]) == 10_000


@given(tables(), st.data())
def test_a_file_cut_off_anywhere_is_unreadable(table, data):
    text = render(table)
    with pytest.raises(Unreadable):
        parse(text[: data.draw(st.integers(0, len(text) - 1))])


def test_a_file_edited_by_hand_is_unreadable():
    text = render(RouteTable(routes=(ModelRoute(name="m", models=("m",), share_bp=1000),)))
    with pytest.raises(Unreadable, match="edited by hand"):
        parse(text.replace("1000", "2000").replace("9000", "8000"))


def test_a_dump_whose_shares_do_not_sum_up_is_unreadable():
    table = RouteTable(routes=(ModelRoute(name="m", models=("m",), share_bp=1000),))
    dumped = json.dumps({"configs": [{"version_info": version(table), "route_config": route_config(table)}]})
    with pytest.raises(Unreadable, match="do not sum to 10000"):
        parse_dump(dumped.replace("9000", "8000"))


@given(st.lists(models, min_size=1, max_size=3))
def test_the_spellings_of_models_are_those_that_mean_the_same_to_ollama(names):
    assert {canonical(text) for text in spellings(names)} == {canonical(name) for name in names}
    for name in names:
        assert canonical(name) in spellings(names) or canonical(name).endswith(":latest")


def test_the_same_routes_in_another_generation_have_another_version():
    assert version(RouteTable(generation=1)) != version(RouteTable(generation=2))
