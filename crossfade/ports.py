"""What tasks, guard and command line ask of the outside world, in the words of the pure rooms.

Adapters implement these Protocols; nothing here knows Envoy, Prometheus or SQL.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from crossfade.judge.evidence import Blind, Interval, Reading, Refused
from crossfade.plan.gates import MEASURES, Measure
from crossfade.rollout.routes import Latch, ModelRoute, RouteTable
from crossfade.rollout.state import MigrationState


class Clock(Protocol):
    """Time as seconds since the epoch, and a way to wait."""

    def now_s(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait; a test's clock returns at once and moves on."""


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Applied:
    """A route table that the router was seen to have in force."""

    table: RouteTable
    seconds: float


class Router(Protocol):
    """The one gate to the route table. The route folder owns the share in force."""

    def table(self) -> RouteTable:
        """The table in the route folder."""

    def observed(self) -> RouteTable:
        """The table the running router shows in its own dump; raises Unreachable when it does not answer."""

    def latches(self) -> Mapping[str, Latch]:
        """Latched route names and why."""

    def refuse_elsewhere(self, name: str) -> None:
        """Raise UserError where no table ever had the route: that it is missing is then no sign that it was taken away."""

    def apply(self, change: ModelRoute, expect: int) -> Applied:
        """Put one route in force and verify it.

        Raises StaleWriter when `expect` is not the generation in force, Tripped when a latched route would rise,
        RouteRejected when the router refuses.
        """

    def remove(self, name: str, expect: int) -> Applied:
        """Take one route away; its models go to the source."""

    def trip(self, name: str, *, why: str, by: str, at_s: float) -> Applied:
        """Latch the route, then put all its requests on the source. Needs no expectation and no network. Idempotent.

        Raises NotInForce when the router answers and does not route by it yet.
        """

    def resume(self, name: str) -> None:
        """Clear the latch; only ever on a person's word."""


class Metrics(Protocol):
    """Evidence out of Prometheus. Blindness is a value, never an exception."""

    def intervals(self, route: str, *, since_s: float, now_s: float, measures: frozenset[Measure] = MEASURES) -> Sequence[Interval] | Blind:
        """Counts of a route per engine between `since_s` and the newest complete sample, oldest first. Histograms of `measures` only."""

    def read(self, gate: str, promql: str) -> Reading | Blind:
        """One number, or why there is none."""

    def complete_intervals(
        self, route: str, *, since_s: float, now_s: float, every_s: float = 15.0, measures: frozenset[Measure] = MEASURES
    ) -> Sequence[Interval] | Blind:
        """Whole intervals of `every_s` seconds (or multiples, where samples are missing) from `since_s` on, oldest first.

        Asked again from the end of the last one they tile time: nothing is counted twice or left out, however far apart the calls are.
        One call returns about an hour at most: ask until it is empty (`gatekeeper.count_since`). Histograms are those of `measures`.
        """

    def bounds(self, route: str, measure: Measure) -> tuple[float, ...] | Blind:
        """The histogram's finite bounds in milliseconds, rising."""

    def probe(self, gate: str, promql: str) -> Reading | Blind | Refused:
        """As `read`, but a query that can never give a number is told from one that cannot now."""


@dataclass(frozen=True)
class Watching:
    """A guard looks at this route every second."""


@dataclass(frozen=True)
class Unwatched:
    """Nobody would bring this route back, and why."""

    why: str


class Watchman(Protocol):
    """Whether the guard could act. Asked before every raise."""

    def watches(self, route: str, *, now_s: float) -> Watching | Unwatched:
        """The guard's state as far as this route is concerned."""


@dataclass(frozen=True)
class Ready:
    """The source has the model in memory and answers."""


@dataclass(frozen=True)
class NotReady:
    """The source could not take everything back at once, and why."""

    why: str


class Standby(Protocol):
    """The source as the way back. Asked before every raise; asking also keeps the model loaded."""

    def stands_ready(self) -> Ready | NotReady:
        """Whether the source could take all requests back now."""


EntryKind = Literal["plan", "phase", "rules", "intent", "decision", "outcome", "breach", "order", "note"]


@dataclass(frozen=True)
class Entry:
    """One line of the journal. `body` is JSON text; its shape belongs to `kind`."""

    migration: str
    attempt: int
    at_s: float
    kind: EntryKind
    subject: str
    body: str
    id: int = 0


class Journal(Protocol):
    """The append-only record, and the newest state of each migration."""

    def begin(self, state: MigrationState, plan_text: str) -> MigrationState:
        """Store a plan and a migration's first state, or begin the next attempt of one that ended.

        Raises UserError when the migration is under way."""

    def state(self, name: str) -> MigrationState:
        """The newest state; raises UnknownMigration."""

    def states(self) -> Sequence[MigrationState]:
        """All migrations, newest change first."""

    def plan_text(self, digest: str) -> str:
        """The plan as it was when the migration began."""

    def move(self, state: MigrationState, entry: Entry, memory: Mapping[str, str] | None = None) -> MigrationState:
        """Store `state`, `entry` and `memory` in one transaction and return the state with its new version.

        Raises StaleWriter when somebody else moved the migration since `state` was read."""

    def record(self, entry: Entry, memory: Mapping[str, str] | None = None) -> None:
        """Append one entry without moving anything. `memory` puts texts in the place of those remembered under the same keys."""

    def recall(self, name: str, key: str) -> str:
        """What was last remembered of a migration under `key`; empty when nothing was."""

    def entries(
        self, name: str, *, kind: EntryKind | None = None, subject: str | None = None, attempt: int | None = None, newest: int = 0
    ) -> Sequence[Entry]:
        """What was recorded of a migration, oldest first, of one kind, subject or attempt if given; `newest` = n gives the n last."""


@dataclass(frozen=True)
class Completion:
    """An engine's answer to one prompt."""

    text: str
    finish: str
    seconds: float


class Engine(Protocol):
    """A serving engine as parity and readiness see it: an OpenAI-compatible endpoint."""

    def models(self) -> tuple[str, ...]:
        """Names it serves; raises Unreachable."""

    def complete(self, model: str, prompt: str, *, max_tokens: int) -> Completion:
        """Greedy answer to one user message; raises Unreachable or EngineDied."""
