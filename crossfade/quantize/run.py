"""Quantized weights: made once, checked, and in place all at once or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from crossfade.errors import NotEnoughRoom, QuantizeFailed, WeightsInvalid
from crossfade.quantize.backend import Backend
from crossfade.quantize.once import only_maker
from crossfade.quantize.request import QuantizeRequest, output_folder
from crossfade.quantize.worker import Say, run_worker
from crossfade.weights import LOADED_BY_ENGINES, MANIFEST, WeightsManifest, hash_files, load_manifest, seal, verify

JOB = "quantize.json"
"""What was asked of the tool; stays in the folder as provenance."""

Tool = Callable[[str], Path]
"""Name of an environment -> its Python; called only when something must be made. May raise ToolMissing."""


def quantize(request: QuantizeRequest, *, tool: Tool, logs: Path, deadline_s: float, on_progress: Say) -> Path:
    """The folder with the weights the request asks for, every file checked; scheme none gives the source's own.

    The same inputs never run twice: a finished folder is verified and returned, and a second caller waits for the first.
    What a killed run left is removed, and a finished folder that was damaged since is put aside and made anew. Raises QuantizeFailed
    with the log's tail, NotEnoughRoom before the tool starts, WeightsInvalid when the source is damaged, UserError when the scheme
    cannot be made.
    """
    final = output_folder(request)
    if request.scheme == "none":
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with only_maker(final, on_progress) as lock:
        if final.exists():
            try:
                verify(final)
            except WeightsInvalid as damage:
                _put_aside(final, damage, on_progress)
            else:
                on_progress(f"already made: {final}")
                return final
        return _make(request, final, tool=tool, logs=logs, deadline_s=deadline_s, lock=lock, say=on_progress)


def _make(request: QuantizeRequest, final: Path, *, tool: Tool, logs: Path, deadline_s: float, lock: int, say: Say) -> Path:
    backend, source, partial = request.backend, Path(request.weights), final.with_name(f"{final.name}.partial")
    python = tool(backend.environment)
    if partial.exists():
        say(f"removing what a killed run left: {partial}")
        shutil.rmtree(partial)
    _require_room(final.parent, load_manifest(source))
    base = verify(source)
    partial.mkdir()
    say(request.prompts()[1])
    if backend.remark:
        say(backend.remark)
    job = partial / JOB
    job.write_text(json.dumps({"source": str(source.resolve()), "out": str(partial.resolve()), **_recipe(request)}, indent=1) + "\n")
    log = logs / f"quantize-{final.name}.log"
    run_worker(python, backend.worker, job, log=log, keep_open=(lock,), deadline_s=deadline_s, say=say, devices=request.devices)
    _take_over(source, base, partial)
    _require_quantized(partial)
    say("hashing")
    seal(partial, _manifest(partial, base, request, backend))
    partial.rename(final)
    say(f"{request.scheme} weights in {final}")
    return final


def _put_aside(final: Path, damage: WeightsInvalid, say: Say) -> None:
    """The last damaged folder of these inputs is kept, for somebody to look at; one before it is not."""
    aside = final.with_name(f"{final.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    final.rename(aside)
    say(f"{damage} It is made anew; what was there is in {aside}")


def _recipe(request: QuantizeRequest) -> dict[str, object]:
    prompts, _ = request.prompts()
    calibration = str(prompts.resolve()) if prompts else None
    return request.model_dump(include={"scheme", "samples", "max_length", "seed"}) | {"calibration": calibration}


def _take_over(source: Path, base: WeightsManifest, partial: Path) -> None:
    """Tokenizer, chat template and generation config stay the source's own bytes.

    A tool writes them anew with its own library version, or not at all; either may change the tokens a prompt becomes (H2).
    """
    for file in base.files:
        weights = Path(file.path).suffix in LOADED_BY_ENGINES or file.path.endswith(".index.json")
        if not weights and file.path != "config.json":
            (partial / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file.path, partial / file.path)


def _require_quantized(partial: Path) -> None:
    try:
        config = json.loads((partial / "config.json").read_text())
    except (OSError, ValueError):
        raise QuantizeFailed(f"the quantizer left no readable config.json in {partial}.") from None
    if "quantization_config" not in config:
        raise QuantizeFailed(f"the quantizer ended well but {partial / 'config.json'} names no quantization: nothing was quantized.")


def _manifest(partial: Path, base: WeightsManifest, request: QuantizeRequest, backend: Backend) -> WeightsManifest:
    paths = [path.relative_to(partial).as_posix() for path in sorted(partial.rglob("*")) if path.is_file() and path.name != MANIFEST]
    if not any(path.endswith(".safetensors") for path in paths):
        raise QuantizeFailed(f"the quantizer ended well but wrote no safetensors into {partial}.")
    return WeightsManifest(
        repo=base.repo,
        commit=base.commit,
        made_by=f"{backend.tool} {backend.version()}",
        files=hash_files(partial, paths),
        scheme=request.scheme,
        base=f"{base.repo}@{base.commit}",
    )


def _require_room(folder: Path, base: WeightsManifest) -> None:
    """The result is smaller than its source; asking for the source's size leaves room for what a tool writes beside it."""
    free = shutil.disk_usage(folder).free
    if free < base.total_bytes:
        raise NotEnoughRoom(
            f"{folder} has {free:,} bytes free; quantizing may need {base.total_bytes:,}. Free some, or move store: in the plan."
        )
