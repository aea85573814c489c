"""What to quantize and how; the same request names the same folder on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from crossfade.errors import UserError
from crossfade.quantize.backend import SCRIPTS, Backend, Scheme, Tool, backend_for
from crossfade.weights import WeightsManifest, load_manifest

DEFAULT_PROMPTS = SCRIPTS / "calibration.jsonl"
"""General prompts, for schemes that cannot do without any where the plan names none."""


class QuantizeRequest(BaseModel):
    """Everything that decides the result. Paths are seen alike by all workers of the pool.

    `calibration` is JSONL with `prompt` and, better, `answer`, as the parity suite is, or with `messages` as chat clients send them.
    Without it w8a8 is rounded to nearest, with it GPTQ decides the rounding; awq and gptq take general prompts then. `samples` prompts
    at most are used, each cut to `max_length` tokens. `devices` are the GPUs to do it on, by number; empty is all that the worker sees.
    They say where it is done and not what comes out, so they do not name the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    out_root: str
    scheme: Scheme
    tool: Tool = "llm-compressor"
    calibration: str | None = None
    samples: int = Field(256, ge=1)
    max_length: int = Field(2048, ge=1)
    seed: int = 0
    devices: tuple[int, ...] = ()

    @property
    def backend(self) -> Backend:
        """What makes it; raises UserError when nothing can."""
        return backend_for(self.scheme, self.tool)

    def prompts(self) -> tuple[Path | None, str]:
        """The file to calibrate with, on this machine, and what to tell of it. Raises UserError when the scheme cannot be made."""
        backend = self.backend
        if self.scheme in backend.data_free:
            return None, "no calibration: the weights alone decide"
        if self.calibration:
            return Path(self.calibration), f"calibrated with the plan's own prompts, {self.calibration}"
        if self.scheme in backend.needs_prompts:
            return (
                DEFAULT_PROMPTS,
                "calibrated with Crossfade's general prompts, because the plan names none; calibration: with yours is better",
            )
        return None, "rounded to nearest, because the plan names no calibration prompts"


def output_folder(request: QuantizeRequest) -> Path:
    """Where the result lies or will lie: `weights` itself for scheme none, else a folder named by the hash of all inputs.

    Reads the source's manifest and the calibration file, needs no tool installed. Raises WeightsInvalid when the source has no
    manifest, UserError when the scheme cannot be made of what the request gives.
    """
    if request.scheme == "none":
        return Path(request.weights)
    manifest = load_manifest(Path(request.weights))
    name = f"{manifest.commit}-{request.scheme}-{_inputs_digest(request, manifest)[:12]}"
    return Path(request.out_root) / manifest.repo.replace("/", "--") / name


def _inputs_digest(request: QuantizeRequest, manifest: WeightsManifest) -> str:
    backend, (prompts, _) = request.backend, request.prompts()
    inputs: dict[str, object] = {
        "files": sorted((file.path, file.sha256) for file in manifest.files),
        "scheme": request.scheme,
        "tool": f"{backend.tool} {backend.version()}",
        "worker": hashlib.sha256(backend.worker.read_bytes()).hexdigest(),  # the script holds the recipe
    }
    if prompts:
        inputs |= {
            "calibration": _sha256(prompts),
            "samples": request.samples,
            "max_length": request.max_length,
            "seed": request.seed,
        }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"the calibration prompts {path} cannot be read: {error.strerror}.") from None
