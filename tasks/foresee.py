"""The last look before users move: can every gate be judged at all, and how long will the ramp take?"""

from __future__ import annotations

from prefect import get_run_logger

from crossfade.errors import PlanInvalid
from crossfade.ramp.foresight import Foreseen, foresee_ramp
from crossfade.rollout.phases import Phase, reached
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench
from tasks.artifacts import publish, table
from tasks.quiet import quiet_task
from tasks.stage import still_on


@quiet_task("foresee {attempt}", retries=5)
def foresee(attempt: Attempt) -> str:
    """Requests and time of each step at the measured traffic, as an artifact; raises PlanInvalid naming each gate that can never pass.

    A ramp that is under way already is not asked again.
    """
    bench = open_bench(attempt.migration)
    state = still_on(bench, attempt)
    if reached(state.phase, Phase.RAMPING):
        return "already ramping"
    found = foresee_ramp(bench.desk, state)
    publish(attempt.migration, "foresee", _markdown(attempt, found), found.summary)
    if found.refused:
        raise PlanInvalid(f"{attempt.migration}: " + "; ".join(f"gate {gate}: {why}" for gate, why in found.refused))
    get_run_logger().info(found.summary)
    return found.summary


def _markdown(attempt: Attempt, found: Foreseen) -> str:
    refused = "".join(f"\n\n**{gate}** can never pass: {why}" for gate, why in found.refused)
    warned = "".join(f"\n\n{warning}" for warning in found.warnings)
    return f"# {attempt}: what to expect\n\n{found.summary}\n\n{table(found.header, found.rows)}{refused}{warned}\n"
