"""What a ramp is judged by: stored once an attempt, and unchanged while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from crossfade.judge.baseline import Baseline
from crossfade.judge.tests_of import Test, budget_shares, tests_of
from crossfade.plan.gates import Gate
from crossfade.plan.model import JudgePlan, RampPlan


class Rules(BaseModel):
    """All gates of the plan, the ramp, how sure to be, and the source's baseline."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    gates: dict[str, Gate]
    ramp: RampPlan
    judge: JudgePlan = JudgePlan()
    baseline: Baseline = Baseline()


@dataclass(frozen=True)
class Yardstick:
    """Rules made ready for counting: the tests they come to, and each one's part of the error budget."""

    rules: Rules
    tests: tuple[Test, ...]
    shares: dict[str, float]

    @classmethod
    def of(cls, rules: Rules) -> Yardstick:
        """The yardstick of some rules."""
        tests = tests_of(rules.gates, rules.judge)
        return cls(rules, tests, budget_shares(tests, rules.judge))
