"""One run that ticks every migration that is due: for more migrations than a scheduler should start processes for.

A migration may have a schedule of its own as well. Whoever comes second finds it just ticked and leaves it alone; when both come at the
same moment, the journal's compare-and-swap lets one of them win, and the other has decided nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from crossfade.errors import CrossfadeError, StaleWriter
from crossfade.home import Home
from crossfade.ports import Clock, SystemClock
from crossfade.ramp.tick import Did, tick
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import Attempt, MigrationState
from crossfade.sharing import Shared

TICKED_IN = frozenset({Phase.REHEARSED, Phase.RAMPING, Phase.CUT_OVER, Phase.SOAKING})
"""Phases in which a migration waits for ticks. One that is `rolling_back` is finished at once, whenever it was last looked at."""

_NEARLY = 0.75
"""Part of `ramp.every` after which a migration is due: a sweep that comes just as often, a few seconds early, must not leave it out."""

_AT_ONCE = 4
"""Ticks under way at the same time: while one waits for Prometheus or the disk, another one computes."""


@dataclass(frozen=True)
class Due:
    """Tick it now; `waited_s` is the time since its last ruling, infinite for one that has none."""

    waited_s: float


@dataclass(frozen=True)
class NotDue:
    """Why it needs no tick now."""

    why: str


Became = Did | Literal["skipped", "failed"]


@dataclass(frozen=True)
class Swept:
    """What one tick of a sweep did. `skipped` moved nothing because another run was quicker; `failed` says in `reason` what to mend.

    `tell` is what a person should hear of now, as `Ticked` has it.
    """

    attempt: Attempt
    became: Became
    reason: str
    share_bp: int
    ended: bool = False
    tell: str = ""


@dataclass(frozen=True)
class Sweep:
    """What became of every migration under way: `swept` had a tick, `not_due` needed none, `left` had no time for one."""

    swept: tuple[Swept, ...]
    not_due: int
    left: int
    seconds: float

    def that(self, *became: Became) -> list[Swept]:
        """Those that ended so."""
        return [one for one in self.swept if one.became in became]


def due(state: MigrationState, *, ruled_s: float | None, every_s: float, now_s: float) -> Due | NotDue:
    """Whether a migration waits for a tick. `ruled_s` is the time of its last ruling in this attempt, if there was one."""
    if state.phase is Phase.ROLLING_BACK:
        return Due(float("inf"))
    if state.phase not in TICKED_IN:
        return NotDue(f"a migration that is {state.phase} has nothing to tick")
    waited_s = float("inf") if ruled_s is None else now_s - ruled_s
    if 0 <= waited_s < _NEARLY * every_s:
        return NotDue(f"ruled {waited_s:.0f} s ago, a tick is due every {every_s:g} s")
    return Due(waited_s)


def sweep(home: Home, *, within_s: float, clock: Clock | None = None, at_once: int = _AT_ONCE) -> Sweep:
    """Tick all migrations of a home that are due, those that waited longest first.

    Whatever goes wrong with one of them is in its `reason`, and the others go on. None is begun `within_s` seconds after the start.
    Raises what opening the journal raises, for without it there is nobody to tick.
    """
    began_s = time.monotonic()
    shared = Shared(home, clock or SystemClock())
    found = [_looked_at(shared, state) for state in shared.journal.states() if state.phase in TICKED_IN | {Phase.ROLLING_BACK}]
    waiting = sorted((one for one in found if isinstance(one, tuple)), key=lambda one: -one[0].waited_s)
    swept = [one for one in found if isinstance(one, Swept)]

    def one(state: MigrationState) -> Swept | None:
        return _ticked(shared, state) if time.monotonic() - began_s < within_s else None

    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="sweep") as pool:
        done = list(pool.map(one, [state for _, state in waiting]))
    swept += [ticked for ticked in done if ticked]
    return Sweep(tuple(swept), sum(isinstance(one, NotDue) for one in found), done.count(None), time.monotonic() - began_s)


def _looked_at(shared: Shared, state: MigrationState) -> tuple[Due, MigrationState] | NotDue | Swept:
    try:
        every_s = shared.plan(state.plan_digest).ramp.every
        last = shared.journal.entries(state.name, kind="decision", attempt=state.attempt, newest=1)
        found = due(state, ruled_s=last[-1].at_s if last else None, every_s=every_s, now_s=shared.clock.now_s())
    except Exception as error:  # its plan, its entries: one that cannot be read is told of, and the others are ticked
        return _failed(state, error)
    return (found, state) if isinstance(found, Due) else found


def _ticked(shared: Shared, state: MigrationState) -> Swept:
    attempt = Attempt(state.name, state.attempt)
    try:
        ticked = tick(shared.desk(state), state.name)
    except StaleWriter as busy:
        return Swept(attempt, "skipped", str(busy), state.share_bp)
    except Exception as error:  # also a bug of ours: it must not keep 999 others from their tick
        return _failed(state, error)
    after = ticked.state
    return Swept(Attempt(after.name, after.attempt), ticked.did, ticked.reason, after.share_bp, after.ended, ticked.tell)


def _failed(state: MigrationState, error: Exception) -> Swept:
    why = str(error) if isinstance(error, CrossfadeError) else f"unexpected {type(error).__name__}: {error}"
    return Swept(Attempt(state.name, state.attempt), "failed", why, state.share_bp)


def summary(done: Sweep) -> str:
    """One line: how many there were and what became of them."""
    counts: dict[str, int] = {}
    for one in done.swept:
        counts[one.became] = counts.get(one.became, 0) + 1
    told = ", ".join(f"{counts[became]} {became.replace('_', ' ')}" for became in sorted(counts, key=lambda key: -counts[key]))
    late = f"; {done.left} had no time left and come first next time" if done.left else ""
    return f"{len(done.swept)} of {len(done.swept) + done.not_due + done.left} under way looked at: {told or 'none was due'}{late}"


def worth_telling(swept: Sequence[Swept]) -> list[Swept]:
    """All but those that held: the worst first."""
    order: tuple[Became, ...] = ("failed", "rolled_back", "back", "finished", "cut_over", "moved", "skipped")
    return sorted((one for one in swept if one.became in order), key=lambda one: (order.index(one.became), str(one.attempt)))
