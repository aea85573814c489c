"""The templates of work pools, as the real Prefect takes them."""

import json
from pathlib import Path

import jsonschema
import prefect
import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.server.schemas.actions import WorkPoolCreate as ServerWorkPoolCreate
from prefect.utilities.templating import apply_values, find_placeholders
from prefect.workers.process import ProcessJobConfiguration

from crossfade.home import CHECKOUT

FOLDER = CHECKOUT / "deployments" / "work-pools"
KINDS = ("process", "docker", "kubernetes")
KNOWN = json.loads((Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json").read_text())
NEWER = {"docker": {"container_create_kwargs"}}
"""Settings of a worker's class that Prefect's own default template leaves out."""


def template(kind):
    return json.loads((FOLDER / f"{kind}.json").read_text())


def default_of(kind):
    """What the installed Prefect would give a pool of that kind."""
    return next(workers[kind] for workers in KNOWN.values() if kind in workers)["default_base_job_configuration"]


@pytest.mark.parametrize("kind", KINDS)
def test_client_and_server_accept_the_template(kind):
    asked = WorkPoolCreate(name="gpu", type=kind, base_job_template=template(kind))
    assert ServerWorkPoolCreate.model_validate(asked.model_dump()).base_job_template == template(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_variable_is_used_and_every_placeholder_is_one(kind):
    named = {placeholder.name for placeholder in find_placeholders(template(kind)["job_configuration"])}
    assert named == set(template(kind)["variables"]["properties"])


@pytest.mark.parametrize("kind", KINDS)
def test_only_settings_that_the_worker_knows_are_set(kind):
    assert set(template(kind)["job_configuration"]) <= set(default_of(kind)["job_configuration"]) | NEWER.get(kind, set())


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_fit_their_own_schema(kind):
    variables = template(kind)["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    jsonschema.validate({name: each["default"] for name, each in variables["properties"].items() if "default" in each}, variables)


def test_a_process_worker_makes_its_job_of_the_template():
    given = template("process")
    defaults = {name: each["default"] for name, each in given["variables"]["properties"].items() if "default" in each}
    filled = apply_values(given["job_configuration"], defaults | {"env": {"CROSSFADE_HOME": "/mnt/store"}}, remove_notset=True)
    job = ProcessJobConfiguration.model_validate(filled)
    assert job.env["CROSSFADE_HOME"] == "/mnt/store"
    assert str(job.working_dir) == "/opt/crossfade"
    assert job.command == "/opt/crossfade/.venv/bin/python -m prefect.engine"


def test_a_kubernetes_job_asks_for_a_gpu_and_mounts_the_store_where_everybody_has_it():
    pod = template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["store"] == template("kubernetes")["variables"]["properties"]["env"]["default"]["CROSSFADE_HOME"]
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)


@pytest.mark.parametrize("kind", KINDS)
def test_no_template_carries_a_token(kind):
    assert "token" not in json.dumps(template(kind)["variables"]["properties"]["env"]["default"]).lower()
