"""The plan's models. Every threshold Crossfade applies is a field here; code contains none.

Defaults are shown by `crossfade plan show`. Fields are described where the reason is not obvious from the name.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from crossfade.plan.addresses import EngineUrl, ListenAddress, Url
from crossfade.plan.gates import ErrorRateGate, Gate, Gates, LatencyGate, PromqlGate, presets_of
from crossfade.plan.own_series import narrowed, started_query
from crossfade.plan.part import Part
from crossfade.plan.target import TargetPlan
from crossfade.plan.units import Bytes, Fraction, Milliseconds, Seconds, ShareBp, at_least, format_seconds

LONGEST_MIGRATION_NAME = 70
"""The router's route names hold 81 characters, and the rehearsal's route adds ten to the migration's name."""

Scheme = Literal["none", "auto", "fp8", "w8a8", "awq", "gptq"]


class SourcePlan(Part):
    """The engine we leave."""

    kind: Literal["ollama"] = "ollama"
    url: EngineUrl


class ModelPlan(Part):
    """One model to move. `name` is what a migration is called: `plan/model` with the tag's colon written as a dash."""

    ollama: str = Field(min_length=1)
    huggingface: str = Field(
        pattern=r"^[\w.\-]+/[\w.\-]+$",
        description="Repository with safetensors of the same weights; never guessed, because a wrong guess answers plausibly (H18).",
    )
    revision: str = Field("main", description="Branch, tag or commit. Resolved to a commit before the first byte and pinned there.")
    quantize: Scheme = "none"
    quantizer: Literal["llm-compressor", "autoawq"] = Field(
        "llm-compressor", description="The tool that makes them. autoawq is archived upstream and makes awq only, in its own file format."
    )
    trust: tuple[str, ...] = Field(
        (), description="Organisations, besides the model's own, whose published quantizations `quantize: auto` may take."
    )
    calibration: Path | None = Field(
        None,
        description="JSONL of prompts to calibrate with; never the parity suite, which must stay unseen. Without it general ones are used.",
    )
    aliases: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _scheme_can_be_made(self) -> Self:
        if self.quantizer == "autoawq" and self.quantize != "awq":
            raise ValueError(f"quantizer: autoawq makes awq only; write quantize: awq, or leave quantizer: out for {self.quantize}")
        return self

    @property
    def slug(self) -> str:
        """Name of the migration below the plan's: safe in a path, a URL and a metric label."""
        return re.sub(r"[^A-Za-z0-9.\-]+", "-", self.ollama)


class RouterPlan(Part):
    """Where clients connect. Point them here before the migration, or let the router take over the source's address."""

    kind: Literal["envoy"] = "envoy"
    listen: ListenAddress = "127.0.0.1:11434"
    metrics_listen: ListenAddress = "127.0.0.1:9902"
    body_limit: Bytes = Field(32 * 2**20, ge=2**20, description="Largest request whose model is read; images travel in base64.")
    close_destructive: bool = Field(False, description="Answer 403 to Ollama's pull, push, create, copy, delete and blobs.")


class PrometheusPlan(Part):
    """The Prometheus that scrapes the router and vLLM."""

    url: Url = "http://127.0.0.1:9090"
    timeout: Annotated[Seconds, at_least(0.1)] = 5.0
    stale_after: Annotated[Seconds, at_least(1)] = 15.0
    target_started: str | None = Field(
        None,
        description="PromQL for when the target was started; a new value begins the ramp anew, from no evidence. Left out: the start of "
        "the vLLM that is scraped at the target's own address under the job vllm, or of the only one there is.",
    )


class LoadPlan(Part):
    """The busiest time the target must carry. Requests at once are `requests_per_s` x `seconds`, unless `at_once` says so directly."""

    prompt_tokens: float = Field(ge=1)
    output_tokens: float = Field(ge=1)
    requests_per_s: float = Field(0.0, ge=0)
    seconds: Seconds = 0.0
    at_once: float | None = Field(None, ge=1)
    longest_tokens: int | None = Field(None, ge=1, description="Prompt and output together of all but one request in a thousand.")


class Workload(Part):
    """What cannot be measured and the decision framework asks."""

    external_users: bool = True
    sla: bool = True
    load: LoadPlan | None = None


class ParityPlan(Part):
    """How far the answers of the two engines may differ. `suite` is JSONL with `prompt`, and `answer` where one is right."""

    suite: Path | None = None
    skip: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        "", description="Why this migration needs no comparison. With a reason here no suite is asked for, and the report repeats it."
    )
    identical_at_least: Fraction = 0.9
    correct_at_least: Fraction = 0.0
    correct_lost_at_most: Fraction = 0.02
    max_tokens: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _compares_or_says_why_not(self) -> Self:
        if self.skip and self.suite:
            raise ValueError("suite: and skip: contradict each other; keep one")
        return self


class DriftPlan(Part):
    """How far quantized weights may be from the unquantized ones before they are served: a healthy server can serve broken ones (H21).

    Both answer `prompts` prompts of `suite`, else of the parity suite, through vLLM. Drift is the mean difference of the log-probability
    that each gives to the unquantized model's own greedy answers; agreement is the part of those tokens that the quantized one would
    have chosen too.
    """

    suite: Path | None = Field(None, description="JSONL of prompts nobody calibrated with; default: the parity suite.")
    skip: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        "", description="Why nothing is compared, for instance because the unquantized model fits no GPU here. The report repeats it."
    )
    prompts: int = Field(32, ge=1)
    max_tokens: int = Field(48, ge=1)
    logprob_at_most: float = Field(0.1, gt=0, description="Mean over all tokens, in nats. 8 bits cost about 0.01, good 4 bits 0.05.")
    agreement_at_least: Fraction = 0.9


class LoadStepPlan(Part):
    """The load that the target must carry before the first user is moved: `times` the busiest the source was seen, or the plan's load.

    Before it, every prompt that is new to the engine is asked once, so that no user pays for compilation.
    """

    times: float = Field(1.3, ge=1)
    at_once: int | None = Field(
        None,
        ge=1,
        description="Requests under way at the busiest time; left out, the baseline's busiest, or workload.load if that is more.",
    )
    hold: Annotated[Seconds, at_least(1)] = 30.0
    max_tokens: int = Field(128, ge=1)
    errors_at_most: Fraction = 0.01
    preemptions_at_most: Fraction = Field(0.01, description="Requests that lost their place in the KV cache, of all.")
    frozen_after: Annotated[Seconds, at_least(1)] = Field(20.0, description="Without a step of the engine while requests run: it hangs.")
    skip: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        "", description="Why this target is not put under load, for instance because it already serves others. The report repeats it."
    )


class GuardPlan(Part):
    """The hard breach: when the guard rolls back without asking the judge."""

    window: Annotated[Seconds, at_least(2)] = 10.0
    errors_at_least: int = Field(5, ge=1)
    error_share_above: Fraction = 0.2
    slow_after: Milliseconds = 10_000.0
    slow_share_above: Fraction = 0.5


class RampPlan(Part):
    """Steps of the target's share and what each must show before the next."""

    every: Annotated[Seconds, at_least(1)] = 60.0
    steps: tuple[ShareBp, ...] = (100, 500, 2500, 5000, 10000)
    hold: Seconds = 300.0
    min_requests: int = Field(30, ge=1, description="Requests on the target before a step can be proven, however good they are.")
    deadline: Seconds = 24 * 3600.0
    at_deadline: Literal["hold", "roll_back", "ask"] = "hold"
    shadow: ShareBp = Field(0, description="Part of the requests also sent to the target, whose answers nobody sees; proves early steps.")
    approve_before: tuple[ShareBp, ...] = Field((), description="Shares that wait for a person's word; no answer is no.")

    @field_validator("steps")
    @classmethod
    def _steps_rise_to_everything(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)) or not steps or steps[0] <= 0:
            raise ValueError("steps must rise strictly from above 0%, like [1%, 5%, 25%, 50%, 100%]")
        if steps[-1] != 10_000:
            raise ValueError("the last step must be 100%; a ramp that ends earlier never reaches its cutover")
        return steps

    @model_validator(mode="after")
    def _approvals_are_of_steps(self) -> Self:
        unknown = [share_bp for share_bp in self.approve_before if share_bp not in self.steps]
        if unknown:
            raise ValueError(
                f"approve_before: {unknown[0] / 100:g}% is no step of this ramp; "
                f"write one of {', '.join(f'{step / 100:g}%' for step in self.steps)}"
            )
        return self

    @model_validator(mode="after")
    def _a_step_fits_before_the_deadline(self) -> Self:
        if self.deadline < self.hold:
            raise ValueError(
                f"deadline: {format_seconds(self.deadline)} is over before one step was held for hold: {format_seconds(self.hold)}; "
                "write a longer deadline or a shorter hold"
            )
        return self


class JudgePlan(Part):
    """How sure the judge must be. The defaults come from a simulation of 45 kinds of ramps (docs/benchmarks/judge.md)."""

    interval: Annotated[Seconds, at_least(1)] = Field(15.0, description="One interval of evidence, by Prometheus' own sample times.")
    alpha: Fraction = Field(0.05, description="Chance that a whole ramp of a good target is ever rolled back, all gates together.")
    beta: Fraction = Field(0.05, description="Chance that an unacceptable target passes the last gate.")
    min_evidence: Seconds = Field(120.0, description="Time with requests on the target before a step can be proven.")
    settle: Seconds = Field(15.0, description="Time after a share moved whose evidence proves nothing; about the longest request.")
    blip: Seconds = Field(45.0, description="A fault must show for so long before it alone can roll back, unless it is a hard one.")
    hard_error_share: Fraction = Field(0.3, description="Errors above this share roll back at once, blip or not.")
    suspicion: Fraction = Field(0.1, description="Hold from this part of the evidence for a rollback on.")
    error_floor: Fraction | Literal["auto"] = Field(
        "auto", description="Below this error share nobody compares errors with the source's; auto is a quarter of at_most, or 0.25%."
    )
    horizon: Seconds = Field(21_600.0, description="How long a ramp is expected to take; spreads the error budget over time.")
    first_start: Fraction = Field(0.4, description="Part of the error budget for defects that are there from the first request.")
    step_start: Fraction = Field(0.1, description="Part for defects that begin with a step, each.")
    hard_part: Fraction = Field(0.05, description="Part of alpha for hard errors.")
    silence_part: Fraction = Field(0.05, description="Part of alpha for a target from which nothing is heard.")
    memory: Annotated[Seconds, at_least(15)] = Field(1500.0, description="How long the source's latencies are remembered for comparison.")

    @model_validator(mode="after")
    def _parts_leave_something(self) -> Self:
        if self.hard_part + self.silence_part >= 1 or self.alpha <= 0 or self.beta <= 0 or self.blip < 0:
            raise ValueError("alpha and beta must be above 0%, and hard_part and silence_part together below 100%")
        return self


def _default_gates() -> Mapping[str, Gate]:
    return {
        "router_scraped": PromqlGate(
            promql='min(up{job="crossfade-router"})', above=0.5, before=("download", "quantize", "deploy", "parity", "rehearse", "ramp")
        ),
        "error_rate": ErrorRateGate.model_validate({"at_most": "1%", "no_worse_than_source": "2x"}),
        "ttft_p95": LatencyGate.model_validate({"no_worse_than_source": "1.3x"}),
    }


class Plan(Part):
    """One plan file: n models make n migrations."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9\-]{0,40}$")
    source: SourcePlan
    models: tuple[ModelPlan, ...] = Field(min_length=1)
    target: TargetPlan = TargetPlan()
    router: RouterPlan = RouterPlan()
    prometheus: PrometheusPlan = PrometheusPlan()
    store: Path | None = Field(None, description="Folder of downloaded and quantized weights; default: weights/ in CROSSFADE_HOME.")
    hub_token: str = Field("", description="Name of a Prefect Secret block with the hub's token; default: HF_TOKEN of the worker.")
    baseline: Seconds = 7200.0
    workload: Workload = Workload()
    gates: Gates = Field(default_factory=_default_gates)
    patience: Seconds = Field(60.0, description="How long a gate between stages may hold before the stage fails; nothing has moved then.")
    guard: GuardPlan = GuardPlan()
    judge: JudgePlan = JudgePlan()
    drift: DriftPlan = DriftPlan()
    parity: ParityPlan = ParityPlan()
    load_step: LoadStepPlan = LoadStepPlan()
    ramp: RampPlan = RampPlan()
    soak: Seconds = 86_400.0
    notify: tuple[str, ...] = Field((), description="Prefect blocks told of rollbacks and of questions, as `type/name` or a unique name.")
    note: str = Field("", description="Printed at the head of the report; says what this plan's confidence is worth.")

    @model_validator(mode="before")
    @classmethod
    def _port_is_chosen(cls, written: object) -> object:
        """Chosen here and once, so that router, Prometheus and the worker that starts vLLM all know the same number."""
        if not isinstance(written, Mapping):
            return written
        target = written.get("target")
        runtime = target.get("runtime") if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping) or not isinstance(runtime, Mapping) or runtime.get("port") != "auto":
            return written
        port = 20_000 + zlib.crc32(str(written.get("name", "")).encode()) % 10_000  # below what Linux gives to outgoing connections
        return {**written, "target": {**target, "runtime": {**runtime, "port": port}}}

    @field_validator("gates", mode="before")
    @classmethod
    def _presets_ask_about_this_target(cls, written: object, info: ValidationInfo) -> object:
        target = info.data.get("target")
        return presets_of(written, lambda promql: narrowed(promql, target)) if isinstance(target, TargetPlan) else written

    @field_validator("models")
    @classmethod
    def _names_are_unique(cls, models: tuple[ModelPlan, ...], info: ValidationInfo) -> tuple[ModelPlan, ...]:
        seen: set[str] = set()
        for model in models:
            for name in (model.ollama, *model.aliases):
                key = name.lower().removesuffix(":latest")
                if key in seen:
                    raise ValueError(f"the name {name!r} is used twice; each model name and alias may appear once")
                seen.add(key)
            if len(f"{info.data.get('name', '')}/{model.slug}") > LONGEST_MIGRATION_NAME:
                raise ValueError(f"plan and model name together are longer than {LONGEST_MIGRATION_NAME} characters; shorten name:")
        if len(models) > 1:
            raise ValueError("one plan moves one model for now, because one vLLM serves one base model; write one plan a model")
        return models

    @property
    def target_started(self) -> str:
        """PromQL for when this plan's target was started, as written or derived from its address."""
        return self.prometheus.target_started or started_query(self.target)

    def model(self, slug: str) -> ModelPlan:
        """The model whose migration is called `<plan>/<slug>`; raises KeyError when there is none."""
        for model in self.models:
            if model.slug == slug:
                return model
        raise KeyError(slug)

    def migration_names(self) -> tuple[str, ...]:
        """`plan/model` for every model, in the plan's order."""
        return tuple(f"{self.name}/{model.slug}" for model in self.models)
