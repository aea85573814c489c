"""What only a plan as a whole, and the files it names, can get wrong; asked once, when a user hands a plan in.

A plan read back from the journal is not asked again: its files may have moved since, and it must stay readable to be rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

from crossfade.errors import PlanInvalid
from crossfade.parity.cases import load_suite
from crossfade.plan.addresses import host_port_of, same_address
from crossfade.plan.gates import ErrorRateGate, LatencyGate, PromqlGate, latency_name
from crossfade.plan.model import Plan
from crossfade.plan.units import format_seconds


@dataclass(frozen=True)
class Problem:
    """A mistake, and the field to change."""

    field: tuple[str | int, ...]
    message: str


def problems(plan: Plan) -> list[Problem]:
    """Everything that would end the migration later for a reason that can be seen now. Reads the files the plan names."""
    return [*_clashes(plan), *_parity(plan), *_calibrations(plan), *_drift(plan), *_limits(plan)]


def _clashes(plan: Plan) -> Iterator[Problem]:
    runtime = f"127.0.0.1:{plan.target.runtime.port}"
    addresses: list[tuple[tuple[str, ...], str]] = [
        (("router", "listen"), plan.router.listen),
        (("router", "metrics_listen"), plan.router.metrics_listen),
        (("source", "url"), host_port_of(plan.source.url)),
        (("target", "runtime", "port"), runtime),
    ]
    if plan.target.reach and not same_address(plan.target.reach, runtime):
        addresses.append((("target", "reach"), plan.target.reach))
    for (other, taken), (field, address) in combinations(addresses, 2):
        if same_address(taken, address):
            yield Problem(field, f"{address} is where {'.'.join(other)} is, {taken}; give one of the two another port")


def _parity(plan: Plan) -> Iterator[Problem]:
    field, suite = ("parity", "suite"), plan.parity.suite
    if plan.parity.skip:
        return
    if suite is None:
        what = 'name a JSONL file of prompts, one {"prompt": "...", "answer": "..."} a line'
        yield Problem(field, f'is missing: {what}, or say why the engines need no comparison: parity: {{skip: "reason"}}')
        return
    try:
        load_suite(_text(suite), str(suite))
    except PlanInvalid as error:
        yield from (Problem(field, line) for line in str(error).splitlines())


def _calibrations(plan: Plan) -> Iterator[Problem]:
    for number, model in enumerate(plan.models):
        field = ("models", number, "calibration")
        try:
            if model.calibration and not _text(model.calibration).strip():
                yield Problem(field, f"{model.calibration} is empty; write one prompt a line")
        except PlanInvalid as error:
            yield Problem(field, str(error))


def _drift(plan: Plan) -> Iterator[Problem]:
    if plan.drift.suite is None or plan.drift.skip:
        return
    try:
        load_suite(_text(plan.drift.suite), str(plan.drift.suite))
    except PlanInvalid as error:
        yield from (Problem(("drift", "suite"), line) for line in str(error).splitlines())


def _limits(plan: Plan) -> Iterator[Problem]:
    """Limits that no number of requests could prove, or that contradict each other."""
    hard = plan.judge.hard_error_share
    for name, gate in plan.gates.items():
        if isinstance(gate, PromqlGate):
            continue
        if gate.no_worse_than_source is not None and gate.no_worse_than_source <= 1:
            yield Problem(("gates", name, "no_worse_than_source"), "1x leaves no room above the source to prove; write 1.3x or 2x")
        if isinstance(gate, ErrorRateGate) and gate.at_most is not None and not 0 < gate.at_most < hard:
            why = f"no number of requests proves 0%; write 0.1%, or a limit below judge.hard_error_share, {100 * hard:g}%"
            above = f"{100 * gate.at_most:g}% is not below judge.hard_error_share, {100 * hard:g}%, which rolls back; write less"
            yield Problem(("gates", name, "at_most"), above if gate.at_most else why)
        if isinstance(gate, LatencyGate) and gate.at_most is not None and gate.at_most <= 0:
            yield Problem(("gates", name, "at_most"), "0 is faster than anything answers; write 500ms")
    yield from _contradictions(plan)
    if 0 < plan.judge.blip < plan.judge.interval:
        yield Problem(
            ("judge", "blip"), "is shorter than judge.interval, so that one interval alone could roll back; write at least as much"
        )


def _contradictions(plan: Plan) -> Iterator[Problem]:
    """A limit that another one always reaches first."""
    limits = {
        name: (*latency_name(name), gate.at_most)
        for name, gate in plan.gates.items()
        if isinstance(gate, LatencyGate) and gate.at_most is not None
    }
    for (low, (measure, q, at_most)), (high, (other, higher_q, bound)) in permutations(limits.items(), 2):
        inside = (measure == other and q < higher_q) or (measure == "ttft" and other == "duration" and q <= higher_q)
        if inside and at_most > bound:
            yield Problem(
                ("gates", low, "at_most"),
                f"{format_seconds(at_most / 1000)} contradicts {high}, which may be {format_seconds(bound / 1000)} at most and is never "
                f"the faster one; write {format_seconds(bound / 1000)} or less",
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanInvalid(f"cannot read {path}: {error.strerror or error}; paths are relative to the plan's folder") from None
    except UnicodeDecodeError:
        raise PlanInvalid(f"{path} is not UTF-8 text; save it as UTF-8") from None
