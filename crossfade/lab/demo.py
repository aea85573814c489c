"""`crossfade demo`: a real migration on this machine, from an empty lab to a finished soak, watched from outside.

With `--breach` the target is made slow and faulty once users are on it, and the demo shows what brings them back. This module
breaks and watches; it has no way to move a route.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
import psutil
from rich.console import Console

from crossfade import processes
from crossfade.errors import GateFailed, Unreachable, UserError
from crossfade.guard.outbox import Notice
from crossfade.home import CHECKOUT
from crossfade.lab.demo_summary import Answer, End, Ended, Load, breach_summary, whole_summary
from crossfade.lab.source_choice import source_name
from crossfade.lab.stack import Lab, down, members
from crossfade.lab.turn import only_one, undisturbed
from crossfade.lab.up import plan_text, up
from crossfade.lab.view import View
from crossfade.lab.watch import Watch
from crossfade.prefect_api import PrefectApi
from crossfade.ramp.report import tell
from crossfade.store import open_journal

Seen = TypeVar("Seen")

MIGRATION = "demo/lab-latest"
SUITE = CHECKOUT / "deployments" / "lab-model" / "eval.jsonl"
RPS = 15
PATIENCE_S = 900
EVENT_PATIENCE_S, NOTICE_PATIENCE_S = 180, 20
BREAK_AT_BP, ENOUGH_ON_TARGET = 5_000, 40
FAULTS = {"delay_ms": 300, "error_share": 0.6, "cut_share": 0.2}


def demo(lab: Lab, console: Console, *, breach: bool) -> bool:
    """Run the demo from a clean lab and stop everything afterwards, whatever happens; returns whether it succeeded.

    Raises UserError when a person's `crossfade up` or another command has the lab.
    """
    with only_one(lab.folder):
        if lab.left_up.exists() and lab.running():
            raise UserError(f"the lab in {lab.folder} is up. The demo begins from a clean one: run 'crossfade down' first.")
        return _demo(lab, console, breach=breach)


def _demo(lab: Lab, console: Console, *, breach: bool) -> bool:
    began_s = time.monotonic()
    memory = PeakMemory(lab)
    down(lab, console.print)
    _forget_last_run(lab)
    with View(console, source_name()) as view:
        try:
            up(lab, view.say)
            memory.start()
            ended = _migrate(lab, view, breach=breach)
        finally:
            with undisturbed():
                memory.stop()
                down(lab, view.say)
    for line in ended.lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"took {time.monotonic() - began_s:.0f} s; peak memory of all parts together {memory.peak_bytes / 2**30:.2f} GiB (PSS)")
    return ended.success


def _forget_last_run(lab: Lab) -> None:
    """Journal, routes and Prefect's history go; weights, environments and downloads stay."""
    for path in (lab.home.router, lab.home.processes, lab.home.logs, lab.folder / "prefect", lab.folder / "prometheus-data"):
        shutil.rmtree(path, ignore_errors=True)
    for stale in (*lab.home.root.glob("journal.sqlite*"), lab.folder / "clients.json"):
        stale.unlink(missing_ok=True)


def _migrate(lab: Lab, view: View, *, breach: bool) -> Ended:
    watch = Watch(lab, MIGRATION)
    prefect = PrefectApi(lab.prefect_api)
    plan = lab.folder / "demo.yaml"  # plan.yaml is the user's, who may have edited it
    plan.write_text(plan_text(lab))
    clients = start_clients(lab)
    run_id = prefect.start("migrate/migrate", {"plan": str(plan)})
    view.say(f"migrate run: {prefect.ui}/runs/flow-run/{run_id}")
    broken_s = _break_target_once_used(lab, prefect, run_id, watch, view) if breach else 0.0
    run = _poll(watch, view, lambda: prefect.flow_run(run_id), lambda run: run.ended, "the migrate run to end")
    if run.state == "COMPLETED":
        _poll(watch, view, watch.snapshot, lambda now: now.ended, "the scheduled ramp to end")
    if breach:
        _await_rollback(lab, prefect, watch, view, broken_s)
    lived = clients.alive()
    processes.stop(clients, deadline_s=20)
    report = watch.clients()
    (lab.folder / "clients-final.json").write_text(report.model_dump_json(indent=1))
    end = End(watch.snapshot(), run, Load(report, lived=lived), where=_write_report(lab))
    return _breach_summary(lab, prefect, end, broken_s) if breach else whole_summary(end)


def start_clients(lab: Lab) -> processes.Program:
    """The load: official ollama and openai clients, through the router only."""
    base, suite = f"http://127.0.0.1:{lab.ports.router}", SUITE
    arguments = ("--base", base, "--model", "lab:latest", "--suite", str(suite), "--rps", str(RPS))
    return lab.module("clients", "crossfade.lab.clients", *arguments, "--report", str(lab.folder / "clients.json"))


def _break_target_once_used(lab: Lab, prefect: PrefectApi, run_id: str, watch: Watch, view: View) -> float:
    """Wait for part of the traffic to be on the target, then make it slow and faulty; returns when."""

    def used_or_over() -> bool:
        now, run = watch.snapshot(), prefect.flow_run(run_id)
        if now.ended or (run.ended and run.state != "COMPLETED"):
            raise GateFailed(f"the migration ended before the target had traffic: {now.because}; {run.message}")
        return now.share_bp >= BREAK_AT_BP and now.target.requests >= ENOUGH_ON_TARGET

    _poll(watch, view, used_or_over, bool, "traffic on the target")
    broken_s = time.time()
    try:
        httpx.post(f"http://127.0.0.1:{lab.ports.fault_control}/faults", json=FAULTS, timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        log = lab.home.logs / "fault-proxy.log"
        raise Unreachable(f"the fault proxy did not take the faults: {type(error).__name__} {error}. Its log is {log}.") from None
    view.say(f"the fault proxy now breaks the target: {FAULTS}")
    return broken_s


def _poll(watch: Watch, view: View, look: Callable[[], Seen], enough: Callable[[Seen], bool], what: str) -> Seen:
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        view.show(watch.snapshot())
        if enough(seen := look()):
            return seen
        time.sleep(1)
    raise GateFailed(f"waited {PATIENCE_S} s for {what}. The logs are in .lab/home/logs.")


def _await_rollback(lab: Lab, prefect: PrefectApi, watch: Watch, view: View, broken_s: float) -> None:
    """Wait for the run that the breach event starts. Without a breach in the journal there is no event, and the wait is short."""
    began_s = time.monotonic()
    while not any(run.ended for run in prefect.runs_of("rollback")):
        view.show(watch.snapshot())
        patience_s = EVENT_PATIENCE_S if _breaches(lab, broken_s) else NOTICE_PATIENCE_S
        if time.monotonic() - began_s > patience_s:
            return
        time.sleep(1)


def _breaches(lab: Lab, broken_s: float) -> list[Notice]:
    """What the guard wrote down of breaches of real traffic since the target was broken, oldest first."""
    entries = open_journal(lab.home).entries(MIGRATION)
    notices = [Notice.model_validate_json(entry.body) for entry in entries if entry.kind == "breach"]
    return [notice for notice in notices if not notice.rehearsal and notice.at_s >= broken_s]


def _breach_summary(lab: Lab, prefect: PrefectApi, end: End, broken_s: float) -> Ended:
    events = {event.id: event for event in prefect.events("crossfade.sla.breached", since_s=broken_s)}
    caused = [run for run in prefect.runs_of("rollback") if run.parameters.get("event_id") in events]
    verified = [Answer(run.id, run.ended_s - events[run.parameters["event_id"]].occurred_s) for run in caused if run.state == "COMPLETED"]
    return breach_summary(end, broken_s=broken_s, breaches=_breaches(lab, broken_s), answers=verified)


def _write_report(lab: Lab) -> str:
    journal = open_journal(lab.home)
    state = journal.state(MIGRATION)
    path = lab.folder / "report.md"
    note = f"Source: {source_name()}. A demo's confidence: a few dozen requests a step."
    path.write_text(tell(state, journal.entries(MIGRATION), note))
    return str(path)


class PeakMemory:
    """Samples the proportional set size of all parts together, so that shared pages count once."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._stop, self.peak_bytes = lab, threading.Event(), 0
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        """Begin sampling every 3 s."""
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._stop.set()

    def _sample(self) -> None:
        while not self._stop.wait(3):
            self.peak_bytes = max(self.peak_bytes, sum(_pss(process) for process in [*members(self._lab), psutil.Process()]))


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
