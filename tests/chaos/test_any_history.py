"""Ticks, verdicts, orders, rollbacks and crashes in any order: shares rise by proof or a person's word, and come back from anywhere."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

from history_desk import MIGRATION, ROUTE, Place, World, act, killed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from crossfade.failpoints import NAMES, Failpoint
from crossfade.judge.verdict import Decision
from crossfade.ramp.logbook import Ruling
from crossfade.ramp.rejudge import rejudge
from crossfade.ramp.rulebook import OPENING
from crossfade.rollout.phases import BEFORE_TRAFFIC, WITH_TRAFFIC, Phase
from crossfade.rollout.state import MigrationState
from crossfade.store.chain import Whole

SHARES_BP = (0, 1000, 5000, 10_000)
ORDERS = ("pause", "resume", "hold", "skip", "back", "abort", "approve", "reject")
SELDOM = ("rollback", "trip", "reconcile")
DEEDS = ("tick",) * 12 + ORDERS + ("rollback", "trip", "reconcile")
IN_A_TRIP: tuple[Failpoint, ...] = ("before-latch", "after-latch", "after-share-0", "after-trip", "after-rolling-back", "after-rolled-back")
DEATHS = [
    *(("tick", f"{name}{times}") for name in NAMES for times in (("", ":2", ":3") if name.endswith(("-move", "-record")) else ("",))),
    *((deed, name) for deed in ("rollback", "abort") for name in IN_A_TRIP),
    *((deed, name) for deed in ("skip", "back") for name in ("after-intent", "before-rename", "after-rename", "after-verify")),
    ("trip", "after-latch"),
    ("reconcile", "before-settling"),
]
STARTS = [(Phase.REHEARSED, -1), (Phase.RAMPING, 0), (Phase.RAMPING, 1), (Phase.CUT_OVER, 2), (Phase.SOAKING, 2)]
EARLIER = [(phase, -1) for phase in sorted(BEFORE_TRAFFIC)]
SECONDS = st.sampled_from([61.0, 61.0, 61.0, 20.0, 0.0, 4000.0])
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a disk that syncs at once, where there is one


class AnyHistory(RuleBasedStateMachine):
    """One migration. `world` is what everybody sees; what the share was before a deed is compared with what it is after."""

    unproven = False
    """The target was started anew, and nobody is back at the first step yet."""

    @initialize(start=st.sampled_from(STARTS * 4 + EARLIER))
    def begin(self, start: tuple[Phase, int]) -> None:
        phase, step = start
        self.world = World(at_s=1000.0)
        self.place = Place(Path(tempfile.mkdtemp(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)))
        self.place.begin(phase, step, SHARES_BP[step + 1], self.world)
        self.desk = self.place.desk(self.world)

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            finished = self.state().phase is Phase.FINISHED
            self.check_journal()
            act(self.desk, "rollback")
            assert finished or (self.share(), self.state().phase in (Phase.ROLLED_BACK, Phase.FAILED)) == (0, True)
            shutil.rmtree(self.place.folder)

    def share(self) -> int:
        return self.desk.router.table().route(ROUTE).share_bp

    def state(self) -> MigrationState:
        return self.desk.journal.state(MIGRATION)

    @rule(answers=st.sampled_from(["good"] * 5 + ["failing", "silent", "unseen"]), guard=st.integers(0, 1), source=st.integers(0, 2))
    def the_world_changes(self, answers: str, guard: int, source: int) -> None:
        self.see(dataclasses.replace(self.world, answers=answers, guard=guard > 0, source=source > 0))

    @rule(seldom=st.integers(0, 3))
    def the_target_is_started_anew(self, seldom: int) -> None:
        if seldom == 0:
            self.see(dataclasses.replace(self.world, started_s=self.world.started_s + 1000))
            self.unproven = self.state().phase in WITH_TRAFFIC and bool(self.desk.journal.recall(MIGRATION, OPENING))

    @rule(deed=st.sampled_from(DEEDS), seconds=SECONDS)
    def somebody_acts(self, deed: str, seconds: float) -> None:
        self.see(dataclasses.replace(self.world, at_s=self.world.at_s + seconds))
        before, share_bp, latched = self.state(), self.share(), ROUTE in self.desk.router.latches()
        said = act(self.desk, deed)
        self.compare(deed, before, share_bp, latched)
        if "Error" in said or "Stale" in said or "Tripped" in said:
            return
        if deed in ("tick", "reconcile") and before.phase not in BEFORE_TRAFFIC - {Phase.REHEARSED} and not before.ended:
            assert self.share() == self.state().share_bp, said
        if deed in ("rollback", "abort", "trip"):
            assert self.share() == 0, said
        if deed in ("rollback", "abort"):
            assert self.state().phase in (Phase.ROLLED_BACK, Phase.FAILED), said

    @rule(death=st.sampled_from(DEATHS), seconds=SECONDS)
    def somebody_dies(self, death: tuple[str, str], seconds: float) -> None:
        self.see(dataclasses.replace(self.world, at_s=self.world.at_s + seconds))
        before, share_bp, latched = self.state(), self.share(), ROUTE in self.desk.router.latches()
        killed(self.place, self.world, *death)
        self.compare(death[0], before, share_bp, latched)

    @precondition(lambda self: self.state().phase in (Phase.ROLLED_BACK, Phase.FAILED))
    @rule()
    def a_person_begins_anew(self) -> None:
        self.place.begin_again(self.desk, self.world)
        assert self.share() == 0

    def see(self, world: World) -> None:
        self.world = world
        self.desk = dataclasses.replace(self.desk, metrics=world, watchman=world, standby=world, clock=world)

    def compare(self, deed: str, before: MigrationState, share_bp: int, latched: bool) -> None:
        """Whether what rose was allowed to."""
        after_bp = self.share()
        if after_bp <= share_bp:
            self.unproven &= after_bp > SHARES_BP[1]
            return
        assert not self.unproven, "a process that had proven nothing got more users"
        assert deed in ("tick", "skip"), f"{deed} raised the share from {share_bp} to {after_bp}"
        assert not latched
        assert SHARES_BP.index(after_bp) == SHARES_BP.index(share_bp) + 1
        assert self.world.guard, "nobody would have brought users back"
        assert self.world.source, "there was no way back"
        assert not before.paused_by
        assert before.hold_until_s <= self.world.at_s
        assert after_bp < SHARES_BP[-1] or before.approved_bp == SHARES_BP[-1]
        verdict = Ruling.model_validate_json(self.desk.journal.entries(MIGRATION, kind="decision", newest=1)[0].body).verdict
        assert verdict.decision is Decision.PROMOTE or (deed == "skip" and verdict.decision is Decision.HOLD)

    def check_journal(self) -> None:
        """Nothing lost, nothing doubled."""
        entries = self.desk.journal.entries(MIGRATION)
        assert isinstance(self.desk.journal.check(MIGRATION), Whole)
        assert rejudge(entries) == []
        rulings = [Ruling.model_validate_json(entry.body) for entry in entries if entry.kind == "decision"]
        for key in {ruling.key for ruling in rulings}:
            counted = [interval for ruling in rulings if ruling.key == key for interval in ruling.evidence.intervals]
            assert all(before.end_s <= after.start_s + 0.001 for before, after in pairwise(counted))


AnyHistory.TestCase.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


class TestAnyHistory(AnyHistory.TestCase):
    """Run by pytest."""
