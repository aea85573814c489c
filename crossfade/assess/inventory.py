"""What is known of both sides before anything moves. Adapters fill these; None means the side did not say."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossfade.assess.shape import Shape


@dataclass(frozen=True)
class SourceFacts:
    """What the source says of one model and of itself.

    `context` is the number of tokens its users have: the running instance's, else what the Modelfile says. None for an idle model without
    `num_ctx`, whose context Ollama decides when it loads it; what the model was made for is no answer to that.
    `installed` are all the names the source can serve, this model's among them. `parallel` is how many requests it answers
    at once per model. `stand_in` is set by the lab's source, so that no report takes it for Ollama.
    """

    version: str
    model: str
    digest: str
    parameter_size: str = ""
    quantization: str = ""
    context: int | None = None
    capabilities: tuple[str, ...] = ("completion",)
    installed: tuple[str, ...] = ()
    shape: Shape = field(default_factory=Shape)
    parallel: int = 1
    stand_in: bool = False

    @property
    def engine(self) -> str:
        """How reports name the source."""
        return f"a stand-in for Ollama, version {self.version}," if self.stand_in else f"Ollama {self.version}"


@dataclass(frozen=True)
class TargetFacts:
    """What the hub says of the weights, and the names vLLM will serve them under.

    `weight_bytes` counts the safetensors only, `total_bytes` all that a download fetches. `files` is the number of files.
    """

    repo: str
    commit: str
    weight_bytes: int
    total_bytes: int
    files: int
    served_names: tuple[str, ...]
    context: int | None = None
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True)
class MachineFacts:
    """Memory of each GPU the target may use, in bytes. Empty: none found or none looked for; nothing is concluded from it."""

    gpu_bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Demand:
    """What traffic asks of the model, where it was measured: most requests at once, and LoRA adapters in use."""

    peak_concurrency: float | None = None
    adapters: int = 0
