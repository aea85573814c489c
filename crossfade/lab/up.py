"""Start the one-machine stack, in the order that keeps a newcomer's wait short: what is slow to start starts first."""

from __future__ import annotations

import os
import time
from pathlib import Path
from string import Template

import httpx

from crossfade import processes
from crossfade.errors import EngineDied
from crossfade.home import CHECKOUT
from crossfade.lab.gguf import write_gguf
from crossfade.lab.prefect_server import deploy_all, make_pools, start_server, start_workers, wait_for_server
from crossfade.lab.prometheus import ScrapeTarget, prometheus_binary, start_prometheus, wait_until_scraping
from crossfade.lab.source_choice import create_models, source_name, start_source
from crossfade.lab.stack import Lab, Say, down, stop_new
from crossfade.lab.turn import only_one, undisturbed
from crossfade.plan import load_plan
from crossfade.processes import MARK
from crossfade.runtime.environments import build
from crossfade.wiring import start_router

MODEL = CHECKOUT / "deployments" / "lab-model"
TOOLS = ("llmcompressor", "vllm")
PARTS = ("guard", "worker-crossfade", "worker-gpu", "prometheus", "router", "fault-proxy", "source", "hub", "prefect-server")
"""Records of what `up` starts, in the order in which it is stopped."""


def bring_up(lab: Lab, say: Say) -> None:
    """`up` for a person, to stay until `down`; when it fails or is interrupted, what it started is stopped and nothing else.

    Raises UserError when another command is at work in the lab, else what `up` raises.
    """
    with only_one(lab.folder):
        before = {program.pid for program in lab.running()}
        try:
            up(lab, say)
        except BaseException:
            with undisturbed():
                if before:
                    stop_new(lab, before, PARTS, say)
                else:
                    down(lab, say)
            raise
        lab.left_up.touch()


def up(lab: Lab, say: Say) -> None:
    """Everything running and scraped, everything deployed; what runs already is left alone. Raises what its parts raise."""
    lab.folder.mkdir(parents=True, exist_ok=True)
    os.environ[MARK] = str(lab.folder)  # also what is started with a bare environment belongs to this lab
    for name in TOOLS:
        build(name, lab.home, say)
    prometheus = prometheus_binary(lab.folder, say)
    lab.settle_ports()
    say("starting the Prefect server")
    start_server(lab)
    say("starting hub, source, fault proxy and router")
    _start_engines(lab, say)
    _start_router_and_prometheus(lab, prometheus)
    keep_plan(lab, say)
    wait_for_server(lab, say)
    make_pools(lab)
    say("prefect deploy --all")
    deploy_all(lab)
    start_workers(lab)
    lab.module("guard", "crossfade.guard")
    say("waiting for the first scrape")
    wait_until_scraping(f"http://127.0.0.1:{lab.ports.prometheus}", 30)
    say("the stack is up")


def plan_text(lab: Lab) -> str:
    """The demo's plan with this lab's ports and its source's name."""
    template = Template((CHECKOUT / "deployments" / "lab" / "plan.yaml").read_text())
    return template.substitute(lab.ports.model_dump(), suite=str(MODEL / "eval.jsonl"), source_name=source_name())


def keep_plan(lab: Lab, say: Say) -> None:
    """The lab's plan.yaml: written anew unless a person has edited it and its ports are still the lab's.

    An edited plan whose ports are not goes to plan.yaml.old.
    """
    path, written = lab.folder / "plan.yaml", lab.folder / "plan.written.yaml"
    found, last = (file.read_text() if file.exists() else "" for file in (path, written))
    if found and found != last:
        if f":{lab.ports.router}" in found and f":{lab.ports.prometheus}" in found:
            return
        path.replace(path.with_suffix(".yaml.old"))
        say(f"the lab has other ports than {path}: a new plan is written, the old one is {path.with_suffix('.yaml.old')}")
    for file in (path, written):
        file.write_text(plan_text(lab))


def _start_engines(lab: Lab, say: Say) -> None:
    ports = lab.ports
    weights = write_gguf(MODEL, lab.folder / "models" / "lab-q4_k_m.gguf", "Q4_K_M")
    name = start_source(lab, weights)
    lab.module("hub", "crossfade.lab.hub_server", "--port", str(ports.hub), "--repo", f"crossfade/lab-model={MODEL}")
    proxy = ("--port", str(ports.fault_proxy), "--upstream", f"127.0.0.1:{ports.target}", "--control", str(ports.fault_control))
    lab.module("fault-proxy", "crossfade.lab.fault_proxy", *proxy)
    _answers(lab, "hub", f"http://127.0.0.1:{ports.hub}/api/models/crossfade/lab-model")
    _answers(lab, "source", f"http://127.0.0.1:{ports.source}/api/version")
    create_models(lab, weights)
    say(f"source: {name}")
    _answers(lab, "fault-proxy", f"http://127.0.0.1:{ports.fault_control}/faults")


def _start_router_and_prometheus(lab: Lab, binary: Path) -> None:
    start_router(lab.home, load_plan(plan_text(lab)).plan)
    targets = (
        ScrapeTarget("crossfade-router", str(lab.home.router / "prometheus.json")),
        ScrapeTarget("vllm", f"127.0.0.1:{lab.ports.target}"),
    )
    if not processes.find("prometheus", lab.home.processes):
        records, logs = lab.home.processes, lab.home.logs
        start_prometheus(binary, lab=lab.folder, port=lab.ports.prometheus, targets=targets, records=records, logs=logs)


def _answers(lab: Lab, name: str, url: str, *, deadline_s: float = 60) -> None:
    """Wait for a part to answer; raises EngineDied with the end of its log when it does not."""
    give_up_s = time.monotonic() + deadline_s
    program = processes.find(name, lab.home.processes)
    while program and program.alive() and time.monotonic() < give_up_s:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    tail = program.log_tail(8) if program else "it was not there a moment after its start"
    raise EngineDied(f"the lab's {name} does not answer at {url}; the end of {lab.home.logs / name}.log:\n{tail}")
