"""What the judge remembers between two looks: small, JSON, and the same however the intervals were grouped into looks."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from crossfade.judge.evidence import Histogram
from crossfade.plan.model import JudgePlan


class Tally(BaseModel):
    """Requests of both engines at the present step, and those of them that a gate calls bad. For people; nothing is decided on it."""

    model_config = ConfigDict(frozen=True)

    target: int = 0
    target_bad: int = 0
    source: int = 0
    source_bad: int = 0


class JudgeState(BaseModel):
    """A fold over all intervals of one key; `key` names an attempt and a start of the target.

    `rollback` holds the logarithms of the restarted e-processes of each test for the whole ramp, `promote` those of the present step.
    `left` and `silence_left` are what is unspent of the prior over the moments at which a defect may begin. `source_*` are decayed
    counts of the source's latencies by bound in milliseconds, cumulative.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    key: str
    budget: float
    until_s: float
    step: int = -2  # a step no ramp has: the first interval begins one
    quiet_s: float = 0.0  # since a request on the target was counted
    fresh: bool = False
    left: float = 1.0
    silence_left: float = 1.0
    silence: float = -1e9
    rollback: dict[str, tuple[float, ...]] = {}
    promote: dict[str, tuple[float, ...]] = {}
    e_log: float = 0.0
    strongest: str = ""
    condemned: str = ""
    seconds: float = 0.0  # with requests on the target, at this step
    since_step_s: float = 0.0  # at this step, whatever came
    requests: int = 0  # on the target, at this step
    source_ttft: tuple[tuple[float, float], ...] = ()
    source_duration: tuple[tuple[float, float], ...] = ()
    tallies: dict[str, Tally] = {}
    seen_target: dict[str, Histogram] = {}
    seen_source: dict[str, Histogram] = {}

    def at_step(self, step: int) -> Self:
        """The memory at the beginning of a step: what was proven of another share proves nothing here; what speaks against stays."""
        if step == self.step:
            return self
        fresh = {"step": step, "fresh": True, "promote": {}, "seconds": 0.0, "since_step_s": 0.0, "requests": 0}
        return self.model_copy(update={**fresh, "tallies": {}, "seen_target": {}, "seen_source": {}})


def begin(key: str, *, judge: JudgePlan, since_s: float, halvings: int) -> JudgeState:
    """The memory of a key from which nothing has been seen; each key before it has halved the error budget."""
    return JudgeState(key=key, budget=judge.alpha / 2**halvings, until_s=since_s)
