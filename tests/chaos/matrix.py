"""What `make chaos` runs: each process killed at the boundaries of a rising tick, with users on the route; the table goes to docs/chaos.md.

    python tests/chaos/matrix.py [--write FILE] [--only VICTIM,...] [--at BOUNDARY,...]

Whatever is killed is a real process and dies by SIGKILL. The tick stands still at the boundary while another process is killed, then
goes on; what was killed is started again, and ticks follow until the step is done.

| killed | the tick is | the engines are |
|---|---|---|
| envoy, tick, guard, prometheus | a process of its own | on bare sockets |
| prefect server, worker | a run of the ramp's deployment | on bare sockets |
| vllm | a process of its own | vLLM, and a source on a bare socket |

Everything takes about 15 minutes; `--only` measures some victims, and what FILE has of the others stays.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "envoy"))
sys.path.append(str(Path(__file__).parents[1] / "flows"))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import chaos_prefect
import chaos_vllm
from chaos_kills import EVERY_BOUNDARY, Chaos, Outcome, bare, cases_of
from chaos_table import merged
from rows import machine

from crossfade import processes
from crossfade.home import Home


@dataclass(frozen=True)
class House:
    """Victims that are killed in one stand, and at which boundaries."""

    victims: tuple[str, ...]
    boundaries: tuple[str, ...]
    open: Callable[[Path, int], Chaos]


HOUSES = (
    House(("tick", "guard", "prometheus", "envoy"), EVERY_BOUNDARY, bare),  # users learn of a dead router later: nobody comes after it
    House(("prefect server", "worker"), chaos_prefect.BOUNDARIES, chaos_prefect.with_prefect),
    House(("vllm",), chaos_vllm.BOUNDARIES, chaos_vllm.WithVllm),
)
VICTIMS = tuple(victim for house in HOUSES for victim in house.victims)


def main() -> None:
    """Kill, check, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page, as Markdown; rows of victims not killed now stay")
    parser.add_argument("--only", default=",".join(VICTIMS), metavar="VICTIM,...", help=f"of {', '.join(VICTIMS)}")
    parser.add_argument("--at", default="", metavar="BOUNDARY,...", help="not at every boundary; for trying out, so nothing is written")
    chosen = parser.parse_args()
    only, at = chosen.only.split(","), chosen.at.split(",") if chosen.at else []
    if unknown := set(only) - set(VICTIMS):
        parser.error(f"nobody is called {', '.join(sorted(unknown))}; there are {', '.join(VICTIMS)}")
    if at and chosen.write:
        parser.error("a page is written of every boundary")
    lost = list[Outcome]()
    for house in HOUSES:
        plan = [(victim, name) for victim in house.victims if victim in only for name in house.boundaries if not at or name in at]
        if not plan:
            continue
        measured_on, outcomes = machine(), measure(house, plan)
        if chosen.write:
            chosen.write.write_text(merged(chosen.write, outcomes, measured_on, VICTIMS))
        lost += [outcome for outcome in outcomes if lost_wrongly(outcome)]
    if lost:
        sys.exit(f"requests were lost that nobody may lose: {lost}")


def measure(house: House, plan: list[tuple[str, str]]) -> list[Outcome]:
    """Every kill of the plan in one stand."""
    before, outcomes = dict(os.environ), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="cf-", ignore_cleanup_errors=True) as folder:
        os.environ["CROSSFADE_HOME"] = folder
        os.environ.pop("CROSSFADE_JOURNAL", None)
        try:
            chaos = house.open(Path(folder), len(plan))
            for (victim, boundary), case in zip(plan, cases_of(len(plan)), strict=True):
                outcomes.append(chaos.one(victim, boundary, case))
                print(outcomes[-1], flush=True)  # noqa: T201
            chaos.close()
        finally:
            processes.stop_all(Home.from_environment().processes, deadline_s=5)
            os.environ.clear()
            os.environ.update(before)
    return outcomes


def lost_wrongly(outcome: Outcome) -> bool:
    """Only a killed router may lose what it holds, and only a killed engine what it had begun to answer."""
    allowed = {"envoy": outcome.lost, "vllm": outcome.cut}.get(outcome.victim, 0)
    return outcome.lost > allowed


if __name__ == "__main__":
    main()
