"""One migration over a real route folder and a real journal, without an Envoy: what any process may do to it, told by name.

The router is the port over the product's own folder: same lock, same latches, same fence. What it lacks is Envoy's word that a table is
in force, so here it always is.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos_forked import forkserver

from crossfade import failpoints
from crossfade.envoy.folder import Overtaken, RouteFolder
from crossfade.envoy.recovery import settle
from crossfade.errors import CrossfadeError, StaleWriter, Tripped
from crossfade.failpoints import reach
from crossfade.judge.evidence import Blind, Counts, Interval, Reading
from crossfade.plan.gates import MEASURES, Measure
from crossfade.plan.load import parse_plan
from crossfade.ports import Applied, Entry, NotReady, Ready, Unwatched, Watching
from crossfade.ramp import orders
from crossfade.ramp.logbook import Desk
from crossfade.ramp.reconcile import reconcile
from crossfade.ramp.rollback import roll_back
from crossfade.ramp.tick import tick
from crossfade.rollout.names import route_name
from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import Latch, ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

MIGRATION = "chat/lab"
ROUTE = route_name(MIGRATION)
PLAN = """
name: chat
source: {url: "http://127.0.0.1:1"}
models: [{ollama: lab, huggingface: a/b}]
gates: {error_rate: {at_most: 1%}}
ramp: {every: 20s, hold: 30s, min_requests: 100, steps: [10%, 50%, 100%], approve_before: [100%], deadline: 1h, at_deadline: ask}
judge: {min_evidence: 15s}
soak: 1m
"""


class FolderRouter:
    """`ports.Router` over the route folder alone."""

    def __init__(self, path: Path) -> None:
        self._folder = RouteFolder(path)
        self._folder.prepare()

    def table(self) -> RouteTable:
        return self._folder.table()

    def observed(self) -> RouteTable:
        return self._folder.table()

    def latches(self) -> Mapping[str, Latch]:
        return self._folder.latches()

    def refuse_elsewhere(self, name: str) -> None:
        assert self._folder.ever_had(name)

    def apply(self, change: ModelRoute, expect: int) -> Applied:
        with self._folder.locked(deadline_s=5):
            current = self._folder.table()
            if current.generation != expect:
                raise StaleWriter("somebody moved the table")
            self._refuse_if_latched(change)
            following = self._folder.fenced(current.with_route(change))
            reach("before-rename")
            try:
                self._folder.store(following)
            except Overtaken:
                raise Tripped(ROUTE) from None
            reach("after-rename")
            self._refuse_if_latched(change)
            return Applied(following, 0.0)

    def remove(self, name: str, expect: int) -> Applied:
        raise NotImplementedError

    def trip(self, name: str, *, why: str, by: str, at_s: float) -> Applied:
        self._folder.latch(name, Latch(why=why, at_s=at_s, by=by))
        reach("after-latch")
        with self._folder.locked(deadline_s=0.5):
            table = settle(self._folder).table
            reach("after-share-0")
        return Applied(table, 0.0)

    def resume(self, name: str) -> None:
        self._folder.unlatch(name)

    def _refuse_if_latched(self, change: ModelRoute) -> None:
        if change.share_bp and change.name in self._folder.latches():
            raise Tripped(f"{change.name} is latched")


@dataclass(frozen=True)
class World:
    """What is so outside while somebody acts: time, evidence, guard and source. `answers` are those of the target."""

    at_s: float
    answers: str = "good"  # good | failing | silent | unseen
    guard: bool = True
    source: bool = True
    started_s: float = 500.0  # when the target was started

    def now_s(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def intervals(self, route: str, *, since_s: float, now_s: float, measures: frozenset[Measure] = MEASURES) -> Sequence[Interval] | Blind:
        return self.complete_intervals(route, since_s=since_s, now_s=now_s, measures=measures)

    def complete_intervals(
        self, route: str, *, since_s: float, now_s: float, every_s: float = 15.0, measures: frozenset[Measure] = MEASURES
    ) -> Sequence[Interval] | Blind:
        if self.answers == "unseen":
            return Blind(gate="requests", why="Prometheus does not answer")
        number = 0 if self.answers == "silent" else 500
        well, ill = Counts(requests=number), Counts(requests=number, errors=200 if self.answers == "failing" else 0)
        starts = [since_s + every_s * index for index in range(int((now_s - since_s) / every_s + 1e-9))]
        return tuple(Interval(start_s=start, end_s=start + every_s, source=well, target=ill) for start in starts)

    def read(self, gate: str, promql: str) -> Reading | Blind:
        return Reading(gate=gate, value=self.started_s)

    def watches(self, route: str, *, now_s: float) -> Watching | Unwatched:
        return Watching() if self.guard else Unwatched("the guard is dead")

    def stands_ready(self) -> Ready | NotReady:
        return Ready() if self.source else NotReady("the source is gone")


@dataclass(frozen=True)
class Place:
    """A folder with journal and routes."""

    folder: Path

    def desk(self, world: World) -> Desk:
        plan = parse_plan(PLAN, origin="test", folder=Path("/")).plan
        journal, router = SqlJournal(self.folder / "journal.sqlite"), FolderRouter(self.folder / "router")
        return Desk(plan=plan, journal=journal, router=router, metrics=world, watchman=world, standby=world, clock=world)

    def begin(self, phase: Phase, step: int, share_bp: int, world: World) -> None:
        desk = self.desk(world)
        desk.router.apply(ModelRoute(name=ROUTE, models=("lab",), share_bp=share_bp), expect=0)
        first = MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=world.at_s, share_since_s=world.at_s)
        state = desk.journal.begin(first, PLAN)
        _place(desk, state, phase, step, share_bp)

    def begin_again(self, desk: Desk, world: World) -> None:
        """What `migrate` does when a person starts it again: a new attempt, and the latch is cleared."""
        first = MigrationState(name=MIGRATION, plan_digest="d", phase_since_s=world.at_s, share_since_s=world.at_s)
        state = desk.journal.begin(first, PLAN)
        desk.router.resume(ROUTE)
        _place(desk, state, Phase.REHEARSED, -1, 0)


def _place(desk: Desk, state: MigrationState, phase: Phase, step: int, share_bp: int) -> None:
    """Put a migration into a phase it would take engines to reach."""
    note = Entry(MIGRATION, state.attempt, desk.clock.now_s(), "note", "placed by a test", '{"why": "test"}')
    desk.journal.move(state.model_copy(update={"phase": phase, "step": step, "share_bp": share_bp}), note)


def act(desk: Desk, deed: str) -> str:
    """Do it as its author would; how a deed is refused is part of the product, so it is no failure here."""
    said = {"by": "ada", "why": "because"}
    try:
        match deed:
            case "tick":
                return tick(desk, MIGRATION).did
            case "reconcile":
                return str(reconcile(desk, MIGRATION).phase)
            case "rollback":
                return str(roll_back(desk, MIGRATION, why="because", by="ada").state.phase)
            case "trip":
                desk.router.trip(ROUTE, why="breach", by="guard", at_s=desk.clock.now_s())
                return "tripped"
            case "hold":
                return orders.hold(desk, MIGRATION, **said, for_s=60)
            case _:
                return str(getattr(orders, deed)(desk, MIGRATION, **said))
    except CrossfadeError as error:
        return f"{type(error).__name__}: {error}"


def killed(place: Place, world: World, deed: str, failpoint: str) -> bool:
    """The same in a process that is killed at its failpoint; whether it came by there."""
    victim = forkserver().Process(target=_die, args=(place, world, deed, failpoint))
    victim.start()
    victim.join(30)
    return victim.exitcode == -signal.SIGKILL


def _die(place: Place, world: World, deed: str, failpoint: str) -> None:
    os.environ |= {"CROSSFADE_FAILPOINT": failpoint, "CROSSFADE_FAILPOINT_ALLOW": "1"}
    importlib.reload(failpoints)  # what is armed is read when a process starts
    act(place.desk(world), deed)
