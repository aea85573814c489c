"""What to quantize and how; the same request names the same folder on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from crossfade.errors import UserError
from crossfade.quantize.backend import Scheme, backend_for
from crossfade.weights import WeightsManifest, load_manifest


class QuantizeRequest(BaseModel):
    """Everything that decides the result. Paths are seen alike by all workers of the pool.

    `calibration` is JSONL with `prompt` and, better, `answer`, as the parity suite is; without it w8a8 is rounded to nearest,
    with it GPTQ decides the rounding. `samples` prompts at most are used, each cut to `max_length` tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    out_root: str
    scheme: Scheme
    calibration: str | None = None
    samples: int = Field(256, ge=1)
    max_length: int = Field(2048, ge=1)
    seed: int = 0


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
    backend = backend_for(request.scheme)
    inputs: dict[str, object] = {
        "files": sorted((file.path, file.sha256) for file in manifest.files),
        "scheme": request.scheme,
        "tool": f"{backend.tool} {backend.version()}",
        "worker": hashlib.sha256(backend.worker.read_bytes()).hexdigest(),  # the script holds the recipe
    }
    if request.calibration and request.scheme not in backend.data_free:
        inputs |= {
            "calibration": _sha256(Path(request.calibration)),
            "samples": request.samples,
            "max_length": request.max_length,
            "seed": request.seed,
        }
    elif request.scheme in backend.needs_prompts:
        raise UserError(
            f"quantize: {request.scheme} needs prompts to calibrate with, and the plan names none. "
            "Give parity.suite a JSONL file, or use fp8 or w8a8."
        )
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"the calibration prompts {path} cannot be read: {error.strerror}.") from None
