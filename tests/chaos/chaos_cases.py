"""Every moment at which a tick is killed or overtaken here: what the tick is about, and where in it.

A name with a number is that passing of the failpoint: the journal is written several times in one tick.
"""

from __future__ import annotations

from chaos_stand import STEPS_BP, Case, Start

from crossfade.rollout.phases import Phase
from crossfade.rollout.routes import FULL_BP

STARTS = {
    "first": Start(Phase.REHEARSED, 0),  # nobody is on the target yet, and the first step is due
    "rise": Start(),  # the next step is proven
    "fall": Start(slow=True),  # the target is condemned
    "settle": Start(),  # a tick before this one died between its verified raise and writing it down
    "lower": Start(),  # the route has more than the journal knows of, and nobody wrote why
    "cut over": Start(Phase.CUT_OVER, FULL_BP),
    "soak": Start(Phase.SOAKING, FULL_BP, soaked_s=1),
    "finish": Start(Phase.SOAKING, FULL_BP, soaked_s=1000),
}

AFTER = {
    "first": ({Phase.RAMPING}, {STEPS_BP[0]}),
    "rise": ({Phase.RAMPING}, {STEPS_BP[1]}),
    "fall": ({Phase.ROLLED_BACK}, {0}),
    "settle": ({Phase.RAMPING}, {STEPS_BP[1]}),
    "lower": ({Phase.RAMPING}, {STEPS_BP[0], STEPS_BP[1]}),  # lowered first; its evidence may prove the step in the same tick
    "cut over": ({Phase.SOAKING}, {FULL_BP}),
    "soak": ({Phase.SOAKING}, {FULL_BP}),
    "finish": ({Phase.FINISHED}, {FULL_BP}),
}
"""Phase and share after the tick that follows a killed one."""

KILLS = (
    ("first", "in-record"),
    ("first", "after-record"),
    ("rise", "before-decision"),
    ("rise", "in-move"),
    ("rise", "after-decision"),
    ("rise", "before-intent"),
    ("rise", "in-move:2"),
    ("rise", "in-move:3"),
    ("rise", "after-intent"),
    ("rise", "before-rename"),
    ("rise", "after-rename"),
    ("rise", "after-verify"),
    ("rise", "in-move:4"),
    ("rise", "after-outcome"),
    ("fall", "after-decision"),
    ("fall", "before-latch"),
    ("fall", "after-latch"),
    ("fall", "after-share-0"),
    ("fall", "after-trip"),
    ("fall", "after-rolling-back"),
    ("fall", "after-rolled-back"),
    ("settle", "before-settling"),
    ("settle", "after-move"),
    ("lower", "before-lowering"),
    ("lower", "after-lowering"),
    ("cut over", "before-soaking"),
    ("cut over", "after-soaking"),
    ("soak", "before-soak"),
    ("finish", "before-finished"),
)

TRIPS = (
    ("first", "after-intent"),
    ("first", "after-rename"),
    ("rise", "in-record"),
    ("rise", "after-record"),
    ("rise", "before-decision"),
    ("rise", "in-move"),
    ("rise", "after-move"),
    ("rise", "after-decision"),
    ("rise", "before-intent"),
    ("rise", "in-move:2"),
    ("rise", "in-move:3"),
    ("rise", "after-intent"),
    ("rise", "before-rename"),
    ("rise", "after-rename"),
    ("rise", "after-verify"),
    ("rise", "in-move:4"),
    ("rise", "after-outcome"),
    ("fall", "before-latch"),
    ("fall", "after-latch"),
    ("fall", "after-share-0"),
    ("fall", "after-trip"),
    ("fall", "after-rolling-back"),
    ("settle", "before-settling"),
    ("lower", "before-lowering"),
    ("lower", "after-lowering"),
    ("cut over", "before-soaking"),
    ("cut over", "after-soaking"),
    ("soak", "before-soak"),
    ("finish", "before-finished"),
)
"""A tick stands still there while the guard trips its route."""

CROWDS = ("two ticks", "two ticks, two guards and a rollback")

_NUMBERS = {key: number for number, key in enumerate([*(("kill", *one) for one in KILLS), *(("trip", *one) for one in TRIPS)], 1)}


def case_of(what: str, about: str, failpoint: str) -> Case:
    """The migration of one test."""
    return Case(_NUMBERS[what, about, failpoint], STARTS[about])


def crowd(what: str) -> Case:
    """The migration that several act on at once."""
    return Case(len(_NUMBERS) + 1 + CROWDS.index(what), STARTS["rise"])


ALL = [*(case_of(*key) for key in _NUMBERS), *(crowd(what) for what in CROWDS)]
