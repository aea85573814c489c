"""The router of a plan: started, adopted, handed over."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade import processes
from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import AnotherRouter
from crossfade.home import Home
from crossfade.plan import Plan
from crossfade.plan.load import parse_plan
from crossfade.rollout.routes import ModelRoute
from crossfade.wiring import start_router


def ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    numbers = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return numbers


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    try:
        yield home
    finally:
        processes.stop_all(home.processes, deadline_s=5)


def plan(listen: int, metrics: int, target: int) -> Plan:
    text = f"""
name: chat
source: {{url: "http://127.0.0.1:1"}}
models: [{{ollama: "lab:latest", huggingface: a/b}}]
target: {{runtime: {{port: {target}}}}}
router: {{listen: "127.0.0.1:{listen}", metrics_listen: "127.0.0.1:{metrics}"}}
"""
    return parse_plan(text, origin="test", folder=Path("/")).plan


def test_a_plan_with_another_target_takes_the_router_over_while_no_user_is_on_one(home: Home) -> None:
    listen, metrics, first, second = ports(4)
    start_router(home, plan(listen, metrics, first))
    router = EnvoyRouter(home.router)
    router.apply(ModelRoute(name="chat.lab-latest", models=("lab:latest",)), expect=router.table().generation)
    start_router(home, plan(listen, metrics, second))
    assert router.observed().route("chat.lab-latest").share_bp == 0
    start_router(home, plan(listen, metrics, second))  # adopted: nothing to hand over


def test_no_handover_while_users_are_on_a_target(home: Home) -> None:
    listen, metrics, first, second = ports(4)
    start_router(home, plan(listen, metrics, first))
    router = EnvoyRouter(home.router)
    router.apply(ModelRoute(name="chat.lab-latest", models=("lab:latest",), share_bp=1000), expect=router.table().generation)
    with pytest.raises(AnotherRouter):
        start_router(home, plan(listen, metrics, second))
    assert router.observed().route("chat.lab-latest").share_bp == 1000
