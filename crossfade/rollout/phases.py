"""Phases of a migration and the table of what may follow what."""

from __future__ import annotations

import itertools
from enum import StrEnum

from crossfade.errors import IllegalMove


class Phase(StrEnum):
    """Where a migration is. The values are stored in journals: never rename one."""

    PLANNED = "planned"  # the plan is in the journal, nothing was touched
    ASSESSED = "assessed"  # worth doing and possible, as far as can be known before a download
    OBSERVING = "observing"  # the router stands in front at share 0 and gathers the source's baseline
    DOWNLOADED = "downloaded"  # weights are on disk and verified
    QUANTIZED = "quantized"  # the weights to serve exist, quantized or as they came
    SERVING = "serving"  # the target answered a real completion
    PROVEN = "proven"  # parity is within the plan's bounds
    REHEARSED = "rehearsed"  # an injected breach was brought back by the guard
    RAMPING = "ramping"  # users are on the target
    CUT_OVER = "cut_over"  # all users are on the target
    SOAKING = "soaking"  # the same gates run on, the source stays warm
    FINISHED = "finished"  # the soak has ended; the source may go
    ROLLING_BACK = "rolling_back"  # traffic is being put back
    ROLLED_BACK = "rolled_back"  # the source serves everything; only a person may begin a new attempt
    FAILED = "failed"  # ended before traffic moved


_FORWARD = (
    Phase.PLANNED,
    Phase.ASSESSED,
    Phase.OBSERVING,
    Phase.DOWNLOADED,
    Phase.QUANTIZED,
    Phase.SERVING,
    Phase.PROVEN,
    Phase.REHEARSED,
    Phase.RAMPING,
    Phase.CUT_OVER,
    Phase.SOAKING,
    Phase.FINISHED,
)
BEFORE_TRAFFIC = frozenset(_FORWARD[: _FORWARD.index(Phase.RAMPING)])
"""Phases in which no user is on the target, so that an error ends in `failed` and needs no rollback."""

WITH_TRAFFIC = frozenset({Phase.RAMPING, Phase.CUT_OVER, Phase.SOAKING})
USERS_MAY_BE_OVER = WITH_TRAFFIC | {Phase.REHEARSED, Phase.ROLLING_BACK}
"""Phases in which the router may have users on the target: a tick may have died after its raise, a rollback before its trip."""

AT_SOURCE = frozenset({Phase.ROLLED_BACK, Phase.FAILED})
"""Ends that say the source serves everything."""

ENDED = frozenset({Phase.FINISHED, Phase.ROLLED_BACK, Phase.FAILED})


def _table() -> dict[Phase, frozenset[Phase]]:
    table: dict[Phase, set[Phase]] = {phase: set() for phase in Phase}
    for before, after in itertools.pairwise(_FORWARD):
        table[before].add(after)
    for phase in BEFORE_TRAFFIC:
        table[phase] |= {Phase.FAILED, Phase.ROLLING_BACK}
    for phase in WITH_TRAFFIC:
        table[phase].add(Phase.ROLLING_BACK)
    for phase in WITH_TRAFFIC:
        table[phase].add(Phase.RAMPING)  # the next step, or a lower one: a person steps back, a restarted target begins again
    table[Phase.ROLLING_BACK].add(Phase.ROLLED_BACK)
    # a new attempt begins again; what is already on disk is found and not made twice
    table[Phase.FAILED].add(Phase.PLANNED)
    table[Phase.ROLLED_BACK].add(Phase.PLANNED)
    return {phase: frozenset(after) for phase, after in table.items()}


TRANSITIONS = _table()


def check_move(before: Phase, after: Phase) -> None:
    """Raise IllegalMove, naming both phases, unless `after` may follow `before`."""
    if after not in TRANSITIONS[before]:
        allowed = ", ".join(sorted(TRANSITIONS[before])) or "nothing"
        raise IllegalMove(f"a migration that is {before} cannot become {after}; what may follow is {allowed}")


def reached(phase: Phase, milestone: Phase) -> bool:
    """Whether a migration in `phase` has already passed `milestone` on the way forward."""
    return phase in _FORWARD and _FORWARD.index(phase) >= _FORWARD.index(milestone)
