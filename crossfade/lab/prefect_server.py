"""Prefect in the lab: server, two process pools with a worker each, and everything of prefect.yaml deployed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import cast

import httpx
from pydantic import JsonValue

from crossfade import processes
from crossfade.errors import EngineDied, Unreachable
from crossfade.home import CHECKOUT
from crossfade.lab.stack import Lab, Say
from crossfade.prefect_api import ENGINE, PrefectApi

POOLS = ("crossfade", "gpu")

_DEPLOY_S = 180
_TEMPLATE = CHECKOUT / "deployments" / "work-pools" / "process.json"


def start_server(lab: Lab) -> processes.Program:
    """Start the server, or find it running, and return at once; `wait_for_server` says when it answers."""
    address = ("--host", "127.0.0.1", "--port", str(lab.ports.prefect))
    return lab.start("prefect-server", sys.executable, "-m", "crossfade.prefect_server", *address)


def wait_for_server(lab: Lab, say: Say, *, deadline_s: float = 180) -> None:
    """Return when the API answers; raises EngineDied with the log's tail when the server ends or takes too long."""
    server = start_server(lab)
    began_s, told_s = time.monotonic(), time.monotonic()
    while time.monotonic() - began_s < deadline_s:
        if not server.alive():
            raise EngineDied(f"the Prefect server ended while starting; its log is {server.log}:\n{server.log_tail(10)}")
        try:
            if httpx.get(f"{lab.prefect_api}/health", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() - told_s > 10:
            told_s = time.monotonic()
            say(f"the Prefect server is starting ({told_s - began_s:.0f} s; its first start makes a database)")
        time.sleep(0.3)
    raise EngineDied(f"the Prefect server did not answer within {deadline_s:.0f} s; its log is {server.log}:\n{server.log_tail(10)}")


def make_pools(lab: Lab) -> None:
    """Pools `crossfade` (with `urgent` before everything else) and `gpu`; no change where they exist.

    A server that has just made its database answers 503 now and then; that is asked again. Raises Unreachable, PermanentError.
    """
    api = PrefectApi(lab.prefect_api)
    try:
        for pool in POOLS:
            api.ensure_pool(pool, _job_template())
        api.ensure_queue("crossfade", "urgent", priority=1)
    except Unreachable as error:
        raise Unreachable(f"the Prefect server took no work pools: {error} Its log is {_log(lab)}.") from None


def start_workers(lab: Lab, pools: Collection[str] = POOLS) -> None:
    """One worker a pool, or find them running. More would only fight for SQLite's lock."""
    for pool in pools:
        arguments = ("--pool", pool, "--type", "process", "--name", f"lab-{pool}")
        lab.start(f"worker-{pool}", sys.executable, "-m", "prefect", "worker", "start", *arguments)


def deploy_all(lab: Lab) -> None:
    """`prefect deploy --all`, as a user would; raises EngineDied with its output when it fails or does not end."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    try:
        done = subprocess.run(command, env=lab.environment(), cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=_DEPLOY_S)
    except subprocess.TimeoutExpired:
        raise EngineDied(f"'prefect deploy --all' did not end within {_DEPLOY_S} s. The server's log is {_log(lab)}.") from None
    if done.returncode != 0:
        raise EngineDied(f"'prefect deploy --all' failed:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")


def _job_template() -> JsonValue:
    """The shipped template for process pools, for this machine: this Python, and no folders or environment but the worker's own."""
    template: dict[str, dict[str, dict[str, dict[str, JsonValue]]]] = json.loads(_TEMPLATE.read_bytes())
    properties = template["variables"]["properties"]
    for variable in ("env", "working_dir"):
        del properties[variable]["default"]
    properties["command"]["default"] = ENGINE
    return cast("JsonValue", template)


def _log(lab: Lab) -> Path:
    return lab.home.logs / "prefect-server.log"
