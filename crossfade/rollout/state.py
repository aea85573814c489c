"""The state of one migration: immutable, moved by `with_*`, stored by compare-and-swap on `version`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict

from crossfade.rollout.phases import ENDED, Phase, check_move


@dataclass(frozen=True)
class Attempt:
    """One attempt of a migration: what a flow run drives, and nothing else."""

    migration: str
    number: int

    def __str__(self) -> str:
        return f"{self.migration} attempt {self.number}"


class MigrationState(BaseModel):
    """What the journal knows of a migration. `phase_since_s` and `share_since_s` are seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    plan_digest: str
    attempt: int = 1
    version: int = 0
    phase: Phase = Phase.PLANNED
    step: int = -1  # index into the plan's ramp steps; -1 before the first
    share_bp: int = 0
    phase_since_s: float
    share_since_s: float
    soaked_s: float = 0.0  # only time in which every gate promoted
    soak_tick_s: float = 0.0  # the last tick of the soak
    because: str = ""
    paused_by: str = ""  # empty: not paused. The judge goes on and rolls back; nothing rises and no soak time counts
    hold_until_s: float = 0.0  # a person's wish to stay at this step for longer
    asked_bp: int = 0  # the share a person's approval is waited for; 0: none
    approved_bp: int = 0  # the highest share a person has approved since the ramp last went back
    resumed_s: float = 0.0  # when a person last let it go on after a pause
    anew: bool = False  # the target was started anew, and users are not back at the first step yet

    @property
    def ended(self) -> bool:
        """Whether nothing more happens without a person."""
        return self.phase in ENDED

    @property
    def waits_since_s(self) -> float:
        """From when on a deadline counts: the share's last move, and not while people wanted it to stay. May lie in the future."""
        return max(self.share_since_s, self.resumed_s, self.hold_until_s)

    def with_phase(self, phase: Phase, *, now_s: float, because: str) -> Self:
        """The state after a legal move; raises IllegalMove otherwise."""
        check_move(self.phase, phase)
        return self.model_copy(update={"phase": phase, "phase_since_s": now_s, "because": because})

    def with_step(self, step: int, share_bp: int, *, now_s: float, because: str) -> Self:
        """The state once the router shows `share_bp`; call it after the verification, never before. A question is answered by it.

        A step down takes an approval back. What the target's new start asks for is done at the first step, and not before.
        """
        check_move(self.phase, Phase.RAMPING)
        since_s = self.phase_since_s if self.phase is Phase.RAMPING else now_s
        moved = {"phase": Phase.RAMPING, "phase_since_s": since_s, "step": step, "share_bp": share_bp, "share_since_s": now_s}
        moved |= {"asked_bp": 0, "hold_until_s": 0.0, "soaked_s": 0.0, "soak_tick_s": 0.0, "anew": self.anew and step > 0}
        moved |= {"approved_bp": self.approved_bp if step >= self.step else 0}
        return self.model_copy(update={**moved, "because": because})

    def with_soak(self, *, now_s: float, promoted: bool, longest_s: float) -> Self:
        """One more tick of the soak. Blind or held time does not count, nor more than `longest_s` between two ticks."""
        gone_s = min(max(0.0, now_s - (self.soak_tick_s or self.phase_since_s)), longest_s)
        return self.model_copy(update={"soak_tick_s": now_s, "soaked_s": self.soaked_s + gone_s if promoted else self.soaked_s})

    def with_pause(self, by: str) -> Self:
        """Nothing rises until somebody resumes it."""
        return self.model_copy(update={"paused_by": by})

    def with_resumption(self, *, now_s: float) -> Self:
        """Not paused any more."""
        return self.model_copy(update={"paused_by": "", "resumed_s": now_s})

    def with_hold_until(self, at_s: float) -> Self:
        """Stay at this step at least until then."""
        return self.model_copy(update={"hold_until_s": at_s})

    def with_question(self, share_bp: int) -> Self:
        """Wait for a person's word on `share_bp`."""
        return self.model_copy(update={"asked_bp": share_bp})

    def with_approval(self, share_bp: int) -> Self:
        """A person has approved `share_bp`, in this attempt and until a step down."""
        return self.model_copy(update={"asked_bp": 0, "approved_bp": share_bp})

    def with_target_anew(self) -> Self:
        """Owe the way back to the first step, unless it is there: what runs now has proven nothing, and nobody has approved it."""
        return self.model_copy(update={"anew": self.step > 0, "asked_bp": 0, "approved_bp": 0})

    def with_source_only(self, *, now_s: float, because: str) -> Self:
        """The state once the source serves everything again."""
        return self.model_copy(update={"share_bp": 0, "share_since_s": now_s, "because": because})

    def with_new_attempt(self, plan_digest: str, *, now_s: float, because: str) -> Self:
        """Begin again from no evidence and from the first step."""
        check_move(self.phase, Phase.PLANNED)
        fresh = {"phase": Phase.PLANNED, "attempt": self.attempt + 1, "step": -1, "share_bp": 0, "plan_digest": plan_digest}
        fresh |= {"soaked_s": 0.0, "soak_tick_s": 0.0, "paused_by": "", "hold_until_s": 0.0, "asked_bp": 0, "approved_bp": 0}
        fresh |= {"resumed_s": 0.0, "anew": False}
        return self.model_copy(update={**fresh, "phase_since_s": now_s, "share_since_s": now_s, "because": because})
