"""All rules through all scenarios, in blocks of replications. Finished blocks are kept in a file, so that a run can be taken up again."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from crossfade.plan.model import Plan
from judge_bench import latency, mann_whitney, minutes, others, ramp, world
from judge_bench.latency import BOUNDS_MS
from judge_bench.others import Argo, Flagger, Kayenta
from judge_bench.product import Crossfade, pace_of, read_plan
from judge_bench.ramp import Outcome, Pace, Rule, drive
from judge_bench.scenario import Scenario, ScenarioFile
from judge_bench.world import World

BLOCK = 25
"""Replications of one job; small enough that both cores are busy to the end."""

Bounds = tuple[float, ...]
PRODUCT = "crossfade"
_OTHERS: dict[str, Callable[[Bounds], Rule]] = {
    "flagger": Flagger,
    "argo": Argo,
    "kayenta": Kayenta,
    "flagger-5-passes": lambda bounds_ms: Flagger(bounds_ms, passes=5),
    "argo-relative": lambda bounds_ms: Argo(bounds_ms, relative=True),
    "kayenta-effect": lambda bounds_ms: Kayenta(bounds_ms, allowed=(1.25, 1.1, 1.1)),
}
RULES = (PRODUCT, *_OTHERS)
DEFAULT_RULES = (PRODUCT, "flagger", "argo", "kayenta")


@dataclass(frozen=True)
class Job:
    """One rule's block of replications of one scenario."""

    rule: str
    scenario: Scenario
    seed: int
    first: int
    count: int

    @property
    def key(self) -> str:
        """Names the job in the file of finished ones; another scenario of the same name has another key."""
        written = hashlib.sha256(self.scenario.model_dump_json().encode()).hexdigest()[:12]
        return f"{self.rule}/{self.seed}/{written}/{self.first}+{self.count}"


@dataclass(frozen=True)
class Setup:
    """Everything that decides about results beside scenarios: plan, pace, and the text of simulation and rules."""

    plan: Plan
    pace: Pace

    @property
    def parameters(self) -> dict[str, Any]:
        """What `digest` is of: all gates and thresholds of the product, the pace, the simulation, and the other rules with their limits."""
        plan = self.plan.model_dump(mode="json", include={"gates", "ramp", "judge", "baseline"})
        return {"plan": plan, **self._of_all_rules}

    @property
    def digest(self) -> str:
        """Hash of the parameters."""
        return _digest_of(self.parameters)

    def stamp(self, rule: str) -> str:
        """What outcomes of a rule depend on: the other rules know nothing of the plan's gates and of the judge."""
        return f"{self.digest}/{judge_digest()}" if rule == PRODUCT else _digest_of(self._of_all_rules)

    @property
    def _of_all_rules(self) -> dict[str, Any]:
        modules = (latency, mann_whitney, minutes, others, ramp, world)
        return {"pace": asdict(self.pace), "code": {module.__name__: _sha(inspect.getsource(module)) for module in modules}}


def setup() -> Setup:
    """As the benchmark's plan says."""
    plan = read_plan()
    return Setup(plan, pace_of(plan))


def judge_digest() -> str:
    """Hash of the judge's source. Results are of this code; a change of its wording changes it too, so it is noted and not frozen."""
    import crossfade.judge as room

    return _sha("".join(path.read_text() for path in sorted(Path(next(iter(room.__path__))).glob("*.py"))))


def jobs_of(file: ScenarioFile, rules: Sequence[str], replications: int) -> list[Job]:
    """Every rule sees the same replications of each scenario. An interrupted run has seen all scenarios in the replications it came to."""
    return [
        Job(rule, scenario, file.seed, first, min(BLOCK, replications - first))
        for first in range(0, replications, BLOCK)
        for scenario in file.scenario
        for rule in rules
    ]


def make_rule(name: str, scenario: Scenario, chosen: Setup) -> Rule:
    """The rule of that name, knowing nothing yet."""
    bounds_ms = BOUNDS_MS[scenario.bounds]
    if name == PRODUCT:
        return Crossfade(bounds_ms, plan=chosen.plan, soak_s=chosen.pace.soak_s)
    return _OTHERS[name](bounds_ms)


def play(job: Job, chosen: Setup) -> list[Outcome]:
    """The outcomes of a job, in the order of its replications."""
    pace = chosen.pace
    return [
        drive(
            World(job.scenario, seed=job.seed, replication=number, horizon_s=pace.horizon_s, slow_ms=pace.slow_ms),
            make_rule(job.rule, job.scenario, chosen),
            pace,
        )
        for number in range(job.first, job.first + job.count)
    ]


def run_all(jobs: Sequence[Job], chosen: Setup, *, processes: int, checkpoint: Path | None) -> dict[str, list[Outcome]]:
    """Outcomes by job key. Those the checkpoint holds with the same stamp are not played again."""
    stamps = {rule: chosen.stamp(rule) for rule in {job.rule for job in jobs}}
    done = dict(_finished(checkpoint, set(stamps.values())))
    left = [job for job in jobs if job.key not in done]
    if len(left) < len(jobs):
        print(f"{len(jobs) - len(left)} of {len(jobs)} blocks are in {checkpoint}")
    for job, outcomes in _played(left, chosen, processes):
        done[job.key] = outcomes
        if checkpoint:
            block = {"stamp": stamps[job.rule], "key": job.key, "outcomes": [list(asdict(one).values()) for one in outcomes]}
            with checkpoint.open("a") as file:
                file.write(json.dumps(block) + "\n")
    return {job.key: done[job.key] for job in jobs}


def _played(jobs: Sequence[Job], chosen: Setup, processes: int) -> Iterator[tuple[Job, list[Outcome]]]:
    if processes == 1:
        yield from ((job, play(job, chosen)) for job in jobs)
        return
    with get_context("spawn").Pool(processes, _ignore_interrupt) as pool:
        yield from pool.imap_unordered(_play, [(job, chosen) for job in jobs])


def _play(both: tuple[Job, Setup]) -> tuple[Job, list[Outcome]]:
    return both[0], play(*both)


def _ignore_interrupt() -> None:
    """Control-C ends the parent, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"


def _finished(checkpoint: Path | None, stamps: set[str]) -> Iterable[tuple[str, list[Outcome]]]:
    if not checkpoint or not checkpoint.exists():
        return
    for line in checkpoint.read_text().splitlines():
        try:
            block = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of an interrupted run
        if block["stamp"] in stamps:
            yield block["key"], [Outcome(*values) for values in block["outcomes"]]


def _digest_of(what: object) -> str:
    return _sha(json.dumps(what, sort_keys=True))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
