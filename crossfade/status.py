"""`crossfade status`: where a migration is, what is really so, and what it waits for. What the router does is read, not believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.envoy.router import EnvoyRouter
from crossfade.errors import CrossfadeError
from crossfade.guard.heartbeat import guard_alive
from crossfade.home import Home
from crossfade.judge.evidence import Blind
from crossfade.judge.verdict import Decision, Finding
from crossfade.plan.units import format_seconds, format_share
from crossfade.ports import Entry
from crossfade.prometheus import queries
from crossfade.ramp.logbook import Because, Ruling
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import WITH_TRAFFIC, Phase
from crossfade.rollout.routes import RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store import open_journal
from crossfade.wiring import Bench, open_bench

_WINDOW_S = 120.0
_MARK = {Decision.PROMOTE: "good", Decision.HOLD: "HOLDS", Decision.ROLL_BACK: "ROLL BACK"}


def show_status(console: Console, name: str) -> None:
    """One table a migration; everything that cannot be seen says why."""
    home = Home.from_environment()
    journal = open_journal(home)
    states = [journal.state(name)] if name else journal.states()
    if not states:
        console.print("no migrations yet. Begin with: crossfade migrate PLAN")
        return
    for state in states:
        table = Table(
            title=f"{state.name}, attempt {state.attempt}", title_justify="left", show_header=False, width=min(console.width, 140)
        )
        for what, value in _rows(home, state):
            table.add_row(what, Text(value))
        console.print(table)


def _rows(home: Home, state: MigrationState) -> Iterator[tuple[str, str]]:
    router, route = EnvoyRouter(home.router), route_name(state.name)
    yield "phase", f"{state.phase}: {state.because}"
    in_file = _seen(lambda: _share(router.table(), route))
    yield "share on the target", f"asked {format_share(state.share_bp)}, in the route file {in_file}"
    yield "in the router's dump", _seen(lambda: _share(router.observed(), route))
    yield "latch", _seen(lambda: _latch(router, route))
    yield "guard", _seen(lambda: guard_alive(home, time.time()).why)
    try:
        bench = open_bench(state.name)
    except CrossfadeError as error:  # a plan this version cannot read must not hide the others, nor what the router does
        yield "plan", f"unknown: {error}"
        return
    yield from _judged(bench, state, route)


def _judged(bench: Bench, state: MigrationState, route: str) -> Iterator[tuple[str, str]]:
    """What needs the plan: evidence, verdicts, and what comes next."""
    decisions = bench.desk.journal.entries(state.name, kind="decision", attempt=state.attempt, newest=5)
    if state.phase in WITH_TRAFFIC:
        yield "observed", _observed(bench, route)
    if decisions:
        yield "gates", "\n".join(_gate(finding) for finding in Ruling.model_validate_json(decisions[-1].body).verdict.findings)
        yield "last decisions", "\n".join(_decision(entry) for entry in reversed(decisions))
    if not state.ended:
        yield "waits for", _waits_for(bench, state, decisions)
        if state.phase in WITH_TRAFFIC or state.phase is Phase.REHEARSED:
            yield "next tick", _next_tick(bench, decisions)


def _share(table: RouteTable, route: str) -> str:
    return next((format_share(known.share_bp) for known in table.routes if known.name == route), "no route")


def _latch(router: EnvoyRouter, route: str) -> str:
    latch = router.latches().get(route)
    return f"{latch.why} (by {latch.by})" if latch else "none"


def _seen(look: Callable[[], str]) -> str:
    """What a look finds, or why nothing could be seen."""
    try:
        return look()
    except CrossfadeError as error:
        return f"unknown: {error}"


def _observed(bench: Bench, route: str) -> str:
    found = bench.desk.metrics.read("observed", queries.observed_share(route, _WINDOW_S))
    if isinstance(found, Blind):
        return f"unknown: {found.why}"
    return f"{100 * found.value:.3g}% of the requests of the last {format_seconds(_WINDOW_S)}"


def _gate(finding: Finding) -> str:
    return f"{_MARK[finding.decision]:<9} {finding.gate}: {finding.reason}"


def _decision(entry: Entry) -> str:
    verdict = Ruling.model_validate_json(entry.body).verdict
    return f"{_clock(entry.at_s)} {verdict.decision} before {entry.subject}: {verdict.reason}"


def _waits_for(bench: Bench, state: MigrationState, decisions: Sequence[Entry]) -> str:
    if state.paused_by:
        return f"a person: paused by {state.paused_by}. crossfade ramp resume {state.name}"
    if state.asked_bp:
        return f"a person's word on {format_share(state.asked_bp)}: crossfade ramp approve|reject {state.name}"
    if not decisions:
        return "its stage to end; see the Prefect UI"
    last = Ruling.model_validate_json(decisions[-1].body).verdict
    if last.decision is not Decision.PROMOTE:
        return last.next_action
    notes = bench.desk.journal.entries(state.name, kind="note", attempt=state.attempt, newest=1)
    if notes and notes[0].id > decisions[-1].id and notes[0].body.startswith('{"why"'):
        return Because.model_validate_json(notes[0].body).why
    return last.next_action


def _next_tick(bench: Bench, decisions: Sequence[Entry]) -> str:
    every_s = bench.plan.ramp.every
    if not decisions:
        return f"every {format_seconds(every_s)}; none yet"
    left_s = decisions[-1].at_s + every_s - time.time()
    if left_s > 0:
        return f"in {format_seconds(round(left_s))}"
    late = format_seconds(round(-left_s))
    hint = "" if -left_s < 2 * every_s else ": is a worker running on the pool `crossfade`, and the schedule not paused?"
    return f"due since {late}{hint}"


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
