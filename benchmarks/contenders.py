"""The routers compared, each started for one run: nothing at all, a bare Envoy, Crossfade's, and others where they are installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load import KEY, Client, body, request

from crossfade import processes
from crossfade.envoy import process
from crossfade.envoy.binary import envoy_binary
from crossfade.envoy.router import EnvoyRouter
from crossfade.envoy.stack import Stack
from crossfade.home import Home
from crossfade.rollout.routes import ModelRoute

MODELS = 10
"""In the full table, with two names each."""

MODEL = f"bench-{MODELS - 1}"
"""The last route of the table, so that all of it is looked through."""

OTHERS = ("nginx", "haproxy", "litellm")
WORKERS = 2
"""Of each proxy that has them; LiteLLM has one."""


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Bench:
    """The engines, what stands before them by name, and Crossfade's router."""

    addresses: Mapping[str, str]
    left_out: Mapping[str, str]
    router: EnvoyRouter
    folder: Path


@contextmanager
def everything(folder: Path, *, without: Sequence[str] = ()) -> Iterator[Bench]:
    """All contenders up and answering, but those left out by name; all stopped at the end."""
    home = Home(folder)
    try:
        source, target = _engines(home)
        addresses = {"direct": target, "bare_envoy": _bare_envoy(home, target)}
        stack = Stack(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", source, target, home.router)
        process.start(stack, home)
        addresses["crossfade"] = stack.listen
        left_out = {}
        for name in OTHERS:
            try:
                addresses[name] = _START[name](home, _program(name, without), target)
            except (RuntimeError, OSError) as error:
                left_out[name] = str(error)
        yield Bench(addresses, left_out, _with_one_model(EnvoyRouter(home.router)), folder)
    finally:
        processes.stop_all(home.processes, deadline_s=5)


def _program(name: str, without: Sequence[str]) -> str:
    if name in without:
        raise RuntimeError("it takes too long to start")
    program = shutil.which(name)
    if not program:
        raise RuntimeError("not installed")
    return program


def fill_table(router: EnvoyRouter) -> None:
    """Nine more models before the one there is, which stays the last."""
    router.remove(MODEL, expect=router.table().generation)
    for number in range(MODELS):
        router.apply(_route(number), expect=router.table().generation)


def _with_one_model(router: EnvoyRouter) -> EnvoyRouter:
    router.apply(_route(MODELS - 1), expect=router.table().generation)
    return router


def _route(number: int) -> ModelRoute:
    names = (f"bench-{number}", f"hf.co/organisation/bench-{number}:q4_k_m")
    return ModelRoute(name=f"bench-{number}", models=names, share_bp=5_000)


def _engines(home: Home) -> tuple[str, str]:
    ports = free_port(), free_port()
    script = Path(__file__).with_name("upstream.py")
    _run(home, "upstream", [sys.executable, str(script), *map(str, ports)])
    for port in ports:
        _await(f"127.0.0.1:{port}", 10)
    return f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"


def _bare_envoy(home: Home, upstream: str) -> str:
    """One listener, one route, one cluster, all at their defaults."""
    host, _, port = upstream.rpartition(":")
    listen, kind = free_port(), "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {
            "virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a"}}]}]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
    }
    endpoint = {"endpoint": {"address": _address(host, int(port))}}
    cluster = {"name": "a", "load_assignment": {"cluster_name": "a", "endpoints": [{"lb_endpoints": [endpoint]}]}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    config = {
        "static_resources": {"listeners": [{"address": _address("127.0.0.1", listen), "filter_chains": [chain]}], "clusters": [cluster]}
    }
    file = _write(home, "bare.json", json.dumps(config))
    flags = ["--disable-hot-restart", "--concurrency", str(WORKERS), "--log-level", "error"]
    _run(home, "bare_envoy", [str(envoy_binary()), "-c", str(file), *flags])
    return _await(f"127.0.0.1:{listen}", 20)


def _nginx(home: Home, program: str, upstream: str) -> str:
    listen = free_port()
    temporary = "".join(f"{kind}_temp_path {home.root}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = f"""
daemon off; worker_processes {WORKERS}; pid {home.root}/nginx.pid; error_log stderr error; events {{ worker_connections 1024; }}
http {{
  access_log off; {temporary} keepalive_requests 1000000; client_body_buffer_size 64k; proxy_buffering off;
  upstream engine {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{listen};
    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}"""
    file = _write(home, "nginx.conf", config)
    _run(home, "nginx", [program, "-p", str(home.root), "-e", "stderr", "-c", str(file)])
    return _await(f"127.0.0.1:{listen}", 10)


def _haproxy(home: Home, program: str, upstream: str) -> str:
    listen = free_port()
    config = f"""
global
  nbthread {WORKERS}
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen front
  bind 127.0.0.1:{listen}
  server engine {upstream}
"""
    _run(home, "haproxy", [program, "-db", "-f", str(_write(home, "haproxy.cfg", config))])
    return _await(f"127.0.0.1:{listen}", 10)


def _litellm(home: Home, program: str, upstream: str) -> str:
    listen = free_port()
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://{upstream}/v1", "api_key": KEY}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": parameters}], "general_settings": {"master_key": KEY}}
    file = _write(home, "litellm.yaml", json.dumps(config))
    command = [program, "--config", str(file), "--host", "127.0.0.1", "--port", str(listen), "--num_workers", "1", "--telemetry", "False"]
    _run(home, "litellm", command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"})
    return _await(f"127.0.0.1:{listen}", 90)


_START = {"nginx": _nginx, "haproxy": _haproxy, "litellm": _litellm}


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def _write(home: Home, name: str, text: str) -> Path:
    home.root.mkdir(parents=True, exist_ok=True)
    file = home.root / name
    file.write_text(text)
    return file


def _run(home: Home, name: str, command: list[str], env: Mapping[str, str] | None = None) -> None:
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "HOME") if key in os.environ}
    processes.start(name, command, records=home.processes, log=home.root / f"{name}.log", env={**kept, **(env or {})})


def _await(address: str, within_s: float) -> str:
    """The address, once a request through it is answered; raises RuntimeError when none is in time."""
    deadline, wire, seen = time.monotonic() + within_s, request(body(MODEL)), ""
    while time.monotonic() < deadline:
        try:
            client = Client(address)
            client.ask(wire)
            client.close()
            return address
        except OSError as error:
            seen = str(error)
            time.sleep(0.1)
    raise RuntimeError(f"did not answer within {within_s:g} s: {seen}")
