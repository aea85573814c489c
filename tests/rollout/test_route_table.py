import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crossfade.rollout.names import is_rehearsal, migration_of, rehearsal_model, rehearsal_route_name, route_name
from crossfade.rollout.routes import FULL_BP, ModelRoute, RouteTable, canonical


def route(name="chat", share_bp=0, models=("lab:latest",)):
    return ModelRoute(name=name, models=models, share_bp=share_bp)


@settings(deadline=None)
@given(st.integers(0, FULL_BP))
def test_source_and_target_always_sum_to_everything(share_bp):
    assert route(share_bp=share_bp).source_bp + share_bp == 10_000


@pytest.mark.parametrize("share_bp", [-1, 10_001])
def test_a_share_outside_the_whole_is_refused(share_bp):
    with pytest.raises(ValidationError):
        route(share_bp=share_bp)


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "ä", "x" * 82])
def test_a_route_name_that_is_no_label_is_refused(name):
    with pytest.raises(ValidationError):
        route(name=name)


def test_a_route_without_a_model_is_refused():
    with pytest.raises(ValidationError):
        route(models=())


@pytest.mark.parametrize("other", ["lab:latest", "lab", "LAB", "Lab:Latest"])
def test_one_name_in_two_routes_is_refused_however_it_is_written(other):
    with pytest.raises(ValidationError, match="is in two routes, 'a' and 'b'"):
        RouteTable(routes=(route("a"), route("b", models=(other,))))


def test_two_routes_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="same name"):
        RouteTable(routes=(route("a", models=("x",)), route("a", models=("y",))))


def test_a_route_may_list_the_spellings_of_its_own_model():
    assert RouteTable(routes=(route(models=("lab", "lab:latest", "LAB")),)).route("chat").models == ("lab", "lab:latest", "LAB")


def test_each_change_is_the_next_generation_and_leaves_the_others_alone():
    table = RouteTable().with_route(route("a", models=("x",))).with_route(route("b", models=("y",)))
    changed = table.with_route(route("a", 500, models=("x",)))
    assert (table.generation, changed.generation) == (2, 3)
    assert changed.route("a").share_bp == 500
    assert changed.route("b") == table.route("b")
    gone = changed.without_route("a")
    assert (gone.generation, [one.name for one in gone.routes]) == (4, ["b"])
    with pytest.raises(KeyError):
        gone.route("a")


def test_a_table_survives_being_stored():
    table = RouteTable().with_route(route(share_bp=2500))
    assert RouteTable.model_validate_json(table.model_dump_json()) == table


@pytest.mark.parametrize(
    ("written", "plain"), [("Lab:LATEST", "lab"), ("lab", "lab"), ("llama3.1:8B", "llama3.1:8b"), ("latest", "latest")]
)
def test_model_names_are_compared_as_ollama_does(written, plain):
    assert canonical(written) == plain


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9][a-z0-9\-]{0,40}", fullmatch=True), st.from_regex(r"[A-Za-z0-9.\-]{1,28}", fullmatch=True))
def test_every_place_a_migration_is_named_leads_back_to_it(plan, model):
    migration = f"{plan}/{model}"
    assert migration_of(route_name(migration)) == migration or model.endswith(".rehearsal")
    assert migration_of(rehearsal_route_name(migration)) == migration
    assert is_rehearsal(rehearsal_route_name(migration))
    route(rehearsal_route_name(migration), models=(rehearsal_model(migration),))
