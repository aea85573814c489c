"""Gates as the user writes them: a name, a limit, and the boundaries they guard.

The name decides the kind: `error_rate`; `ttft_pNN` or `duration_pNN`; anything else is a PromQL gate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from crossfade.plan.units import Fraction, Milliseconds, Times

Boundary = Literal["download", "quantize", "deploy", "parity", "rehearse", "ramp", "step", "cutover", "soak"]
"""Where gates are asked, in the order a migration comes to them.

| boundary | asked |
|---|---|
| `download` | before the first byte of the weights is fetched |
| `quantize` | before the weights are made smaller, also where `quantize: none` leaves them as they are |
| `deploy` | before the target is started |
| `parity` | before prompts are sent to both engines |
| `rehearse` | before the rollback is rehearsed on the router |
| `ramp` | before the first share above 0 |
| `step` | between ramp steps |
| `cutover` | before 100 % |
| `soak` | all through the soak |

Up to `ramp` no user's request is on the target, so there is nothing to judge a rate or a latency on: PromQL gates are for there.
"""

LATENCY_NAME = re.compile(r"(ttft|duration)_p(\d{1,2}(?:\.\d+)?)")


class _Gate(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_ratios(reject: float | None, tolerate: float | None) -> None:
    """Between what is tolerated and what is not there must be room, or no number of requests could ever decide."""
    if tolerate is not None and (reject is None or not 1 <= tolerate < reject):
        raise ValueError(f"tolerate: {tolerate:g}x must lie between 1x and no_worse_than_source; leave it out for a good default")


class ErrorRateGate(_Gate):
    """Share of requests meant for the target that failed there, also those the router answered from the source."""

    kind: Literal["error_rate"] = "error_rate"
    at_most: Fraction | None = None
    no_worse_than_source: Times | None = None
    tolerate: Times | None = None
    before: tuple[Boundary, ...] = ("step", "cutover", "soak")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.at_most is None and self.no_worse_than_source is None:
            raise ValueError("a gate needs a limit: at_most: 1% or no_worse_than_source: 2x")
        _check_ratios(self.no_worse_than_source, self.tolerate)
        return self

    @property
    def tolerated(self) -> float:
        """How many times the source's rate is still good: a quarter of the way to `no_worse_than_source`, unless written."""
        return self.tolerate or 1 + ((self.no_worse_than_source or 1) - 1) / 4


class LatencyGate(_Gate):
    """A percentile of time to first token (`ttft_p95`) or of whole requests (`duration_p95`), measured at the router."""

    kind: Literal["latency"] = "latency"
    at_most: Milliseconds | None = None
    no_worse_than_source: Times | None = None
    tolerate: Times | None = None
    before: tuple[Boundary, ...] = ("step", "cutover", "soak")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.at_most is None and self.no_worse_than_source is None:
            raise ValueError("a gate needs a limit: at_most: 500ms or no_worse_than_source: 1.3x")
        _check_ratios(self.no_worse_than_source, self.tolerate)
        return self

    @property
    def tolerated(self) -> float:
        """How many times the source's percentile is still good: a third of the way to `no_worse_than_source`, unless written."""
        return self.tolerate or 1 + ((self.no_worse_than_source or 1) - 1) / 3


class PromqlGate(_Gate):
    """An instant query that must give one number on the right side of its limit. No number holds."""

    kind: Literal["promql"] = "promql"
    promql: str
    below: float | None = None
    above: float | None = None
    before: tuple[Boundary, ...] = ("ramp", "step", "cutover", "soak")
    breach: Literal["hold", "roll_back"] = "hold"

    @field_validator("promql")
    @classmethod
    def _asks_something(cls, promql: str) -> str:
        if not promql.strip():
            raise ValueError("the query is empty; write one that gives one number, like max(vllm:kv_cache_usage_perc)")
        return promql

    @field_validator("below", "above")
    @classmethod
    def _is_a_number(cls, limit: float | None) -> float | None:
        if limit is not None and not math.isfinite(limit):
            raise ValueError(f"{limit} is no limit, no value lies on a side of it; write a number like 0.9")
        return limit

    @model_validator(mode="after")
    def _has_one_limit(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("a PromQL gate needs exactly one limit, below: or above:")
        return self


Gate = Annotated[ErrorRateGate | LatencyGate | PromqlGate, Discriminator("kind")]


PRESETS: Mapping[str, Mapping[str, object]] = {
    "kv_cache": {"promql": "max(vllm:kv_cache_usage_perc)", "below": 0.9},
    "queue": {"promql": "max(avg_over_time(vllm:num_requests_waiting[1m]))", "below": 1.0},
    "preemptions": {
        # at least one success in the denominator: without requests this is 0 and not NaN
        "promql": "sum(increase(vllm:num_preemptions_total[5m])) / clamp_min(sum(increase(vllm:request_success_total[5m])), 1)",
        "below": 0.01,
    },
    "heartbeat": {
        # requests that were running at every scrape of two minutes while the engine did not take one step
        # each server by itself: a busy one must not hide one that hangs
        "promql": "max(sum by (instance) (min_over_time(vllm:num_requests_running[2m])) "
        "* (sum by (instance) (increase(vllm:iteration_tokens_total_count[2m])) == bool 0))",
        "below": 1.0,
        "breach": "roll_back",
    },
}
"""vLLM's own signals by the gate's name: `kv_cache: {}` is enough, and each part may be written to replace the preset's.

A waiting request a minute, nine tenths of the KV cache or a preemption in a hundred requests mean that the target is full; requests that
run while the engine stands still mean that it hangs. In a plan they ask about its own target (`own_series`).
"""


Measure = Literal["ttft", "duration"]
MEASURES: frozenset[Measure] = frozenset({"ttft", "duration"})
"""The latencies a gate can be about: to the first token, to the end."""


def latency_name(name: str) -> tuple[Measure, float]:
    """What `ttft_p95` measures and at which quantile: `("ttft", 0.95)`.

    Raises ValueError for a name that is no latency gate or a percentile outside 1..99.9.
    """
    match = LATENCY_NAME.fullmatch(name)
    if not match or not 0 < float(match[2]) < 100:
        outside = re.fullmatch(r"(?:ttft|duration)_p(-?\d+(?:\.\d+)?)", name)
        why = f": no percentile {outside[1]}, they lie between 0 and 100" if outside else ""
        raise ValueError(f"{name!r} is not a latency gate{why}; write ttft_p95 or duration_p99")
    measure: Measure = "ttft" if match[1] == "ttft" else "duration"
    return measure, float(match[2]) / 100


def presets_of(written: object, narrow: Callable[[str], str]) -> object:
    """Gates as they are written, with the queries of the presets among them written out and narrowed; others stay as they are."""
    if not isinstance(written, Mapping):
        return written
    return {name: _narrowed(str(name), body, narrow) for name, body in written.items()}


def _narrowed(name: str, body: object, narrow: Callable[[str], str]) -> object:
    if not isinstance(body, Mapping) or "promql" in body or name not in PRESETS:
        return body
    filled = _with_kind(name, body)
    return {**filled, "promql": narrow(str(filled["promql"]))} if isinstance(filled, Mapping) and "promql" in filled else body


def _with_kinds(written: object) -> object:
    if not isinstance(written, Mapping):
        return written
    return {name: _with_kind(str(name), body) for name, body in written.items()}


def _with_kind(name: str, body: object) -> object:
    if not isinstance(body, Mapping) or "kind" in body:
        return body
    kind = implied_kind(name, is_promql="promql" in body)
    if kind == "latency":
        try:
            latency_name(name)
        except ValueError as error:  # so that the line of this gate is named, not of all
            wrong = PydanticCustomError("gate_name", "{why}", {"why": str(error)})
            raise ValidationError.from_exception_data("gates", [{"type": wrong, "loc": (name,), "input": name}]) from None
    if kind == "promql" and "promql" not in body and name in PRESETS:
        preset = {key: value for key, value in PRESETS[name].items() if key not in ("below", "above") or not {"below", "above"} & set(body)}
        return {"kind": kind, **preset, **body}
    return {"kind": kind, **body}


def implied_kind(name: str, *, is_promql: bool) -> Literal["error_rate", "latency", "promql"]:
    """The kind a gate has when nobody writes one."""
    if name == "error_rate":
        return "error_rate"
    return "latency" if name.startswith(("ttft_", "duration_")) and not is_promql else "promql"


Gates = Annotated[Mapping[str, Gate], BeforeValidator(_with_kinds)]
