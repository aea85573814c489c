"""Drive one rule through one replication until it has decided or the horizon is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from crossfade.judge.verdict import Decision
from judge_bench.world import INTERVAL_S, Seen, Setting, World


@dataclass(frozen=True)
class Pace:
    """What all rules have in common. The soak is cut short: nothing in a scenario begins after it."""

    steps: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 1.0)
    tick_s: float = 60.0
    horizon_s: float = 6 * 3600.0
    soak_s: float = 900.0
    slow_ms: float = 500.0


@dataclass(frozen=True)
class Stage:
    """Where the ramp stands when a rule is asked. At the last step `next_share` is 1, too."""

    step: int
    share: float
    next_share: float
    held_s: float
    last: bool


class Rule(Protocol):
    """Something that decides about a ramp. Made anew for each replication."""

    def learn(self, baseline: Callable[[], Seen]) -> None:
        """What the source did before the ramp, for rules that want to know."""

    def decide(self, stage: Stage, seen: Seen) -> Decision:
        """After each tick: `seen` is what was counted since the last one, at this stage."""

    def memory_bytes(self) -> int:
        """Size of what it would have to store between two ticks; 0 where that makes no sense."""


@dataclass(frozen=True)
class Outcome:
    """How a ramp went. `rolled_back_s` and `full_s` are seconds since the first step, -1 for never; `full_s` is when 100 % was reached.

    `defect_first`: what is wrong with a bad target was there when it got all traffic. Requests and bad ones (failed, slower than the
    limit, or never answered) are the target's until the rule's last decision.
    """

    rolled_back_s: float
    full_s: float
    defect_first: bool
    target_requests: int
    target_bad: int
    memory_bytes: int


def drive(world: World, rule: Rule, pace: Pace) -> Outcome:
    """One ramp from the first step to a roll-back, the promotion at 100 % (at the latest after the soak), or the horizon."""
    rule.learn(world.baseline)
    count, last = round(pace.tick_s / INTERVAL_S), len(pace.steps) - 1
    step, changed_s, full_s, rolled_back_s, defect_first, most_bytes = 0, 0.0, -1.0, -1.0, False, 0
    for first in range(0, round(pace.horizon_s / INTERVAL_S), count):
        share, now_s = pace.steps[step], (first + count) * INTERVAL_S
        seen = world.passed(first, count, Setting(share, changed_s))
        stage = Stage(step, share, pace.steps[min(step + 1, last)], now_s - changed_s, step == last)
        decision = rule.decide(stage, seen)
        if first % 64 == 0:
            most_bytes = max(most_bytes, rule.memory_bytes())
        if decision is Decision.ROLL_BACK:
            rolled_back_s = now_s
            break
        if step == last and (decision is Decision.PROMOTE or stage.held_s >= pace.soak_s):
            break
        if decision is Decision.PROMOTE and step < last:
            step, changed_s = step + 1, now_s
            if step == last:
                full_s, defect_first = now_s, world.is_defective(now_s, share)
    most_bytes = max(most_bytes, rule.memory_bytes())
    return Outcome(rolled_back_s, full_s, defect_first, world.target_requests, world.target_bad, most_bytes)
