"""Scenarios as data: what befalls two engines during a ramp, and whether a judge ought to let the target pass.

A file is TOML: `title`, `seed`, `holdout`, and `[[scenario]]` tables whose keys are the fields of `Scenario`; docs/benchmarks/judge.md
explains how to add one. Everything left out is an unremarkable pair of engines.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Kind = Literal["good", "bad", "edge"]


class ScenarioInvalid(SystemExit):
    """A scenario file does not say what it must; ends the program with its message."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Part):
    """Seconds since the ramp's first step."""

    from_s: float = Field(ge=0)
    for_s: float = Field(gt=0)


class Fault(Span):
    """A disturbance that begins and ends. While it lasts, `errors` is the share that fails, and latency is `ttft_x` times itself."""

    arm: Literal["source", "target", "both"]
    errors: float | None = Field(None, ge=0, le=1)
    ttft_x: float = Field(1.0, gt=0)

    def hits(self, arm: Literal["source", "target"]) -> bool:
        """Whether that engine suffers from it."""
        return self.arm in ("both", arm)


class Scenario(_Part):
    """One kind of ramp. `_x` multiplies the source's value; `_s` are seconds, from the ramp's first step where a moment is meant."""

    name: str = Field(min_length=1)
    kind: Kind
    left_out: str = Field("", description="Why the pooled rows of the design leave it out; empty: they count it, unless it is an edge.")

    rps: float = Field(10.0, ge=0, description="Requests a second to both engines together.")
    burst_cv2: float = Field(0.0, ge=0, description="Squared coefficient of variation of an interval's rate (gamma).")
    waves: float = Field(0.0, ge=0, le=2, description="1: traffic swings by half, latency by a fifth, errors by two fifths, together.")
    waves_period_s: float = Field(7200.0, gt=0)
    quiet: tuple[Span, ...] = Field((), description="No client asks anything.")
    baseline_s: float = Field(7200.0, ge=0)

    error_rate: float = Field(0.005, ge=0, le=1)
    error_icc: float = Field(
        0.0, ge=0, lt=1, description="Correlation of failures within an interval (beta-binomial): one crash, many errors."
    )
    errors_x: float = Field(1.0, ge=0)

    ttft_p95_ms: float = Field(300.0, gt=0)
    sigma: float = Field(0.8, gt=0, description="Of the logarithm of the time to first token.")
    ttft_x: float = Field(1.0, gt=0)
    target_sigma: float | None = Field(None, gt=0, description="The target's own sigma, at the same p95.")
    tail_share: float = Field(0.0, ge=0, le=1, description="Share of the target's requests that are `tail_x` times as slow.")
    tail_x: float = Field(1.0, gt=0)
    load: float = Field(0.0, ge=0, lt=1, description="How much of its latency an engine loses when it has no traffic.")
    drift_sd: float = Field(0.0, ge=0, description="Of each engine's log latency, wandering on its own (AR(1)).")
    drift_memory_s: float = Field(300.0, gt=0)
    cold_s: float = Field(0.0, ge=0, description="After each change of the share the target is `cold_x` times as slow for so long.")
    cold_x: float = Field(1.0, gt=0)

    defect_from_s: float = Field(0.0, ge=0, description="From here on errors_x, ttft_x, tail and target_sigma hold.")
    defect_from_share: float = Field(0.0, ge=0, le=1, description="And only from this share on.")
    defect_grows_s: float = Field(0.0, ge=0, description="It grows evenly for so long; 0: it is there at once.")
    silent_from_s: float | None = Field(None, ge=0, description="From here on the target's requests never end and are never counted.")
    fault: tuple[Fault, ...] = ()
    blind: tuple[Span, ...] = Field((), description="Prometheus cannot be read; what was counted meanwhile is seen afterwards.")
    bounds: Literal["router", "vllm"] = "router"

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.waves * 0.5 > 1:
            raise ValueError("waves above 2 would make traffic negative")
        return self

    @property
    def pooled(self) -> bool:
        """Whether the design's pooled rows count it."""
        return self.kind != "edge" and not self.left_out


class ScenarioFile(_Part):
    """One file of scenarios. A `holdout` is judged only with parameters frozen before anybody saw its results."""

    title: str
    seed: int
    holdout: bool = False
    scenario: tuple[Scenario, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [one.name for one in self.scenario]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two scenarios are called {twice[0]!r}")
        return self

    @property
    def digest(self) -> str:
        """Hash of everything in it; the same numbers written in another way hash alike."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def read_scenarios(path: Path) -> ScenarioFile:
    """The scenarios of a file; raises ScenarioInvalid with the first thing that is wrong and where."""
    try:
        return ScenarioFile.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise ScenarioInvalid(f"{path}: cannot be read ({error.strerror}); name a TOML file like benchmarks/scenarios/known.toml") from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioInvalid(f"{path}: is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ScenarioInvalid(f"{path}: {where or 'file'}: {first['msg']}; the fields are in judge_bench/scenario.py") from None
