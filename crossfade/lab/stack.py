"""The one-machine stack: every part of production, small, on loopback, under one folder.

`up` starts what is not running yet and is safe to repeat. Everything started carries `CROSSFADE_LAB=<folder>` in its
environment, so that `down` finds also what a Prefect worker started for us, and what a killed run left behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from crossfade import processes
from crossfade.home import CHECKOUT, Home
from crossfade.lab.free_ports import are_good, choose_free
from crossfade.processes import MARK

Say = Callable[[str], None]


class Ports(BaseModel):
    """Loopback ports of the parts, chosen once per lab folder."""

    model_config = ConfigDict(frozen=True)

    prefect: int
    hub: int
    source: int
    router: int
    router_metrics: int
    target: int
    fault_proxy: int
    fault_control: int
    prometheus: int
    guard: int


@dataclass(frozen=True)
class Lab:
    """Paths and addresses of the stack in `folder`."""

    folder: Path

    @property
    def home(self) -> Home:
        """Crossfade's own files in the lab."""
        return Home(self.folder / "home")

    @property
    def ports(self) -> Ports:
        """The ports of this lab, chosen and written down on first use."""
        try:
            return Ports.model_validate_json(self._ports_file.read_text())
        except (OSError, ValueError):
            return self._choose_ports()

    def settle_ports(self) -> Ports:
        """The ports to start with: those of the last time, unless nothing of the lab runs and somebody else has taken one."""
        ports = self.ports
        if self.running() or are_good(ports.model_dump().values()):
            return ports
        return self._choose_ports()

    def _choose_ports(self) -> Ports:
        ports = Ports(**dict(zip(Ports.model_fields, choose_free(len(Ports.model_fields)), strict=True)))
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self._ports_file.with_suffix(".tmp")
        temporary.write_text(ports.model_dump_json(indent=1))
        temporary.replace(self._ports_file)
        return ports

    @property
    def _ports_file(self) -> Path:
        return self.folder / "ports.json"

    @property
    def left_up(self) -> Path:
        """There while a person's `crossfade up` is in force; `down` takes it away."""
        return self.folder / "left-up"

    def running(self) -> list[processes.Program]:
        """The recorded parts that run, whoever started them."""
        found = (processes.find(record.stem, self.home.processes) for record in self.home.processes.glob("*.json"))
        return [program for program in found if program]

    @property
    def prefect_api(self) -> str:
        """Prefect's API; the UI is the same without `/api`."""
        return f"http://127.0.0.1:{self.ports.prefect}/api"

    def environment(self) -> dict[str, str]:
        """The environment of every part: this user's, less anything that would point Prefect or the hub elsewhere."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "CROSSFADE_", "HF_"))}
        ours = {
            MARK: str(self.folder),
            "CROSSFADE_HOME": str(self.home.root),
            "CROSSFADE_CHECKOUT": str(CHECKOUT),
            "CROSSFADE_GUARD_LISTEN": f"127.0.0.1:{self.ports.guard}",
            "CROSSFADE_PLAN": str(self.folder / "plan.yaml"),
            "CROSSFADE_ENVIRONMENTS": str(self.folder / "environments"),
            "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "HF_ENDPOINT": f"http://127.0.0.1:{self.ports.hub}",
            "HF_HOME": str(self.folder / "huggingface"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.prefect_api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "30",  # two busy cores keep SQLite's lock for longer than the default of 10 s
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        }
        return {**kept, **ours}

    def start(self, name: str, *command: str, extra: Mapping[str, str] | None = None) -> processes.Program:
        """Start a part, or find it running. `extra` goes into its environment."""
        running = processes.find(name, self.home.processes)
        log = self.home.logs / f"{name}.log"
        return running or processes.start(
            name, command, records=self.home.processes, log=log, env=self.environment() | dict(extra or {}), cwd=CHECKOUT
        )

    def module(self, name: str, module: str, *arguments: str) -> processes.Program:
        """Start one of our own modules as a part."""
        return self.start(name, sys.executable, "-m", module, *arguments)


def down(lab: Lab, say: Say) -> None:
    """Stop everything of this lab, also what a killed run left behind; says what it stopped."""
    stopped = list(processes.stop_all(lab.home.processes, deadline_s=8)) if lab.home.processes.is_dir() else []
    left = _marked(lab.folder)
    _end(left)
    lab.left_up.unlink(missing_ok=True)
    if stopped or left:
        say(f"stopped {', '.join(stopped) or 'nothing by name'}" + (f" and {len(left)} more processes of the lab" if left else ""))


def members(lab: Lab) -> list[psutil.Process]:
    """Every running process of this lab, for memory accounting: those we recorded, their children, and all that carry the mark."""
    families = [process for program in lab.running() for process in processes.family(program)]
    return list({process.pid: process for process in [*families, *_marked(lab.folder)]}.values())


def _marked(folder: Path) -> list[psutil.Process]:
    """Processes whose environment carries our mark, except ourselves and those we run under."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in own and process.environ().get(MARK) == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
            continue
    return found


def stop_new(lab: Lab, before: Collection[int], parts: Collection[str], say: Say) -> None:
    """Stop those of `parts` whose pid is not in `before`, and what this process started and had not recorded yet."""
    stopped = []
    for name in parts:
        program = processes.recorded(name, lab.home.processes)
        if program and program.pid not in before:
            processes.stop(program, deadline_s=8)
            (lab.home.processes / f"{name}.json").unlink(missing_ok=True)
            stopped.append(name)
    _end([process for process in _marked(lab.folder) if process.pid not in before and _parent(process) == os.getpid()])
    say(f"stopped {', '.join(stopped) or 'nothing'}; what ran before goes on")


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return 0


def _end(found: list[psutil.Process]) -> None:
    processes.end(found, first=[process.pid for process in found], deadline_s=5)
