"""What the router refuses by itself, and that clients can read why."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import ollama
import openai
import pytest
from envoy_rig import Rig

from crossfade.envoy.stack import MIB, Stack
from crossfade.errors import UserError

DESTRUCTIVE = ["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/sha256:00"]
DISGUISED = [
    "/api/%64elete",
    "/api//pull",
    "//api/pull",
    "/x/../api/pull",
    "/api/pull/",
    "/api/PULL",
    "/api/pull?x=1",
    "/api\\pull",
    "/api/./pull",
]


@pytest.fixture(scope="module")
def closed_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A router of 4 MiB that changes no models."""
    rig = Rig(tmp_path_factory.mktemp("r"))
    rig.stack = replace(rig.stack, body_limit_bytes=4 * MIB, close_destructive=True)
    try:
        rig.start()
        rig.route(10_000)
        yield rig
    finally:
        rig.close()


@pytest.mark.parametrize("path", [*DESTRUCTIVE, *DISGUISED])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_closed_route_is_answered_403_and_no_engine_hears_of_it(closed_rig, method, path):
    heard = len(closed_rig.source.seen)
    answer = closed_rig.client.request(method, _raw(closed_rig, path), json={"model": "m"})
    assert answer.status_code == 403
    assert "models cannot be pulled, pushed, created, copied or deleted" in answer.json()["error"]
    assert len(closed_rig.source.seen) == heard


@pytest.mark.parametrize("path", ["/api/tags", "/api/show", "/api/chat", "/api/pulled", "/api/ps", "/v1/models", "/delete"])
def test_other_routes_stay_open(closed_rig, path):
    assert closed_rig.client.post(path, json={}).json()["engine"] == "source"


@pytest.mark.parametrize("path", DESTRUCTIVE)
def test_they_are_open_unless_the_plan_closes_them(shared_rig, path):
    assert shared_rig.client.post(path, json={"model": "m"}).json()["engine"] == "source"


def test_the_official_ollama_client_shows_the_reason(closed_rig):
    with pytest.raises(ollama.ResponseError, match="this route is closed") as refused:
        ollama.Client(host=f"http://{closed_rig.stack.listen}").delete("m")
    assert refused.value.status_code == 403


def test_the_official_ollama_client_shows_the_limit(closed_rig):
    with pytest.raises(ollama.ResponseError, match=r"limit of 4 MiB.*smaller images") as refused:
        ollama.Client(host=f"http://{closed_rig.stack.listen}").generate("m", prompt="x" * 5 * MIB)
    assert refused.value.status_code == 413


def test_the_official_openai_client_shows_the_limit(closed_rig):
    client = openai.OpenAI(base_url=f"http://{closed_rig.stack.listen}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 5 * MIB}])
    assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")
    assert "limit of 4 MiB" in refused.value.message


def test_images_of_several_megabytes_reach_the_target(rig):
    rig.route(10_000)
    image = base64.b64encode(os.urandom(12 * MIB)).decode()
    content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
    answer = rig.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}], "model": "m"})
    assert answer.json()["engine"] == "target"
    assert answer.json()["bytes"] > 16 * MIB


def test_an_engines_own_413_and_403_are_passed_on_as_they_are(rig):
    rig.route(10_000)
    for status in (413, 403):
        rig.target.status = status
        answer = rig.ask()
        assert (answer.status_code, answer.json()) == (status, {"error": "as told"})


@pytest.mark.parametrize("limit", [0, -1, MIB - 1, 2**40])
def test_a_body_limit_out_of_all_reason_is_refused(tmp_path: Path, limit: int):
    with pytest.raises(UserError, match="it must be 1 MiB to 1024 MiB"):
        Stack("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", tmp_path, body_limit_bytes=limit)


def _raw(rig: Rig, path: str) -> httpx.URL:
    """The path as it is written, which httpx would tidy up."""
    url = httpx.URL(f"http://{rig.stack.listen}")
    return url.copy_with(raw_path=path.encode())
