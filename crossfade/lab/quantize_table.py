"""What each way of quantizing does to the lab model on this machine: does vLLM load it, and how far is it from the unquantized one."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossfade.errors import QuantizeFailed, QuantizeOverdue, ToolMissing, UserError
from crossfade.home import CHECKOUT, Home
from crossfade.parity.drift import DriftReport
from crossfade.quantize.backend import Scheme, Tool
from crossfade.quantize.drift import DriftRequest, drift
from crossfade.quantize.request import QuantizeRequest, output_folder
from crossfade.quantize.run import Tool as FindTool
from crossfade.quantize.run import quantize
from crossfade.runtime.environments import find
from crossfade.weights import WeightsManifest, hash_files, load_manifest, seal

MODEL = CHECKOUT / "deployments" / "lab-model"
DEADLINE_S = 300.0
_NOT_WEIGHTS = ("eval.jsonl", "*.py", "*.md")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """One row: a tool, a scheme, and whether it sees prompts."""

    tool: Tool
    scheme: Scheme
    calibrated: bool
    what: str


WAYS = (
    Way("llm-compressor", "fp8", False, "fp8: FP8_DYNAMIC, data-free"),
    Way("llm-compressor", "w8a8", False, "w8a8: int8, rounded to nearest"),
    Way("llm-compressor", "w8a8", True, "w8a8: int8, GPTQ"),
    Way("llm-compressor", "gptq", True, "gptq: W4A16, groups of 128"),
    Way("llm-compressor", "awq", True, "awq: W4A16_ASYM, groups of 128"),
    Way("autoawq", "awq", True, "awq: GEMM 4 bits, groups of 128"),
)


@dataclass(frozen=True)
class Line:
    """What became of one way. `problem` says in one line why there are no numbers.

    `seconds` is None where nobody noted how long making the weights took.
    """

    way: Way
    made_by: str = ""
    seconds: float | None = None
    size_bytes: int = 0
    report: DriftReport | None = None
    overdue: bool = False
    problem: str = ""


def ways_of(schemes: Sequence[str]) -> tuple[Way, ...]:
    """The ways that make one of `schemes`; raises UserError for a scheme that none makes."""
    known = {way.scheme for way in WAYS}
    unknown = [scheme for scheme in schemes if scheme not in known]
    if unknown:
        raise UserError(f"no way makes {unknown[0]!r}; the table knows {', '.join(sorted(known))}.")
    return tuple(way for way in WAYS if way.scheme in schemes)


def measure(
    folder: Path, home: Home, say: Say, *, ways: Sequence[Way] = WAYS, deadline_s: float = DEADLINE_S, tool: FindTool | None = None
) -> Iterator[Line]:
    """Every way in turn, each as soon as it is known. Half of the model's prompts calibrate, the other half compares.

    What is made stays in `folder` with the time it took, and a second call takes it from there. A way that takes longer than
    `deadline_s` is stopped and is a line that says so. `tool` finds the Python of a tool; the environments of `home` when left out.
    """
    run = _Run(tool or (lambda name: find(name, home).python), home.logs, deadline_s, say)
    source, calibration, held_out = _prepared(folder)
    for way in ways:
        say(f"{way.tool}, {way.what}")
        request = QuantizeRequest(
            weights=str(source),
            out_root=str(folder / "weights"),
            scheme=way.scheme,
            tool=way.tool,
            calibration=str(calibration) if way.calibrated else None,
            max_length=128,
        )
        yield _line(way, request, held_out, run)


@dataclass(frozen=True)
class _Run:
    """How a tool is found and how long it may take."""

    tool: FindTool
    logs: Path
    deadline_s: float
    say: Say


def _line(way: Way, request: QuantizeRequest, held_out: Path, run: _Run) -> Line:
    began_s, found = time.monotonic(), output_folder(request).exists()
    try:
        made = quantize(request, tool=run.tool, logs=run.logs, deadline_s=run.deadline_s, on_progress=run.say)
    except (QuantizeFailed, ToolMissing) as error:
        return Line(way, overdue=isinstance(error, QuantizeOverdue), problem=_in_one_line(error))
    took_s, manifest, note = time.monotonic() - began_s, load_manifest(made), made.with_name(f"{made.name}.seconds")
    if not found:
        note.write_text(f"{took_s:.1f}\n")
    seconds = float(note.read_text()) if note.exists() else None
    size_bytes = sum(file.bytes for file in manifest.files if file.path.endswith(".safetensors"))
    asked = DriftRequest(base=request.weights, quantized=str(made), suite=str(held_out), prompts=1000, dtype="bfloat16")
    try:
        left_s = max(1.0, run.deadline_s - took_s)
        report = drift(asked, tool=run.tool, logs=run.logs, deadline_s=left_s, on_progress=run.say)
    except (QuantizeFailed, ToolMissing) as error:
        overdue = isinstance(error, QuantizeOverdue)
        return Line(way, manifest.made_by, seconds, size_bytes, overdue=overdue, problem=_in_one_line(error))
    return Line(way, manifest.made_by, seconds, size_bytes, report)


def _prepared(folder: Path) -> tuple[Path, Path, Path]:
    """The lab model as a download leaves it, and its prompts in two halves."""
    source, commit = folder / "source", "0" * 40
    if not (source / "weights.json").exists():
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(MODEL, source, ignore=shutil.ignore_patterns(*_NOT_WEIGHTS))
        names = sorted(path.name for path in source.iterdir())
        seal(source, WeightsManifest(repo="crossfade/lab-model", commit=commit, made_by="this checkout", files=hash_files(source, names)))
    rows = (MODEL / "eval.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    halves = (folder / "calibration.jsonl", folder / "held-out.jsonl")
    for path, half in zip(halves, (rows[::2], rows[1::2]), strict=True):
        path.write_text("".join(half), encoding="utf-8")
    return source, *halves


def as_markdown(lines: list[Line]) -> str:
    """The table, under the machine it was made on."""
    head = ("tool", "scheme", "made in s", "bytes", "vLLM loads it", "tokens that agree", "identical answers", "mean drift", "largest")
    rows = [head, tuple("---" for _ in head), *map(_cells, lines)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"# Quantizing the lab model\n\nMade by `crossfade lab quantize-table` on {machine()}.\n\n"
        f"The model is 3,807,792 bytes in bfloat16. Half of its {_prompts(lines)} prompts calibrated, the other half compared: both "
        "weights read the unquantized model's greedy answers in vLLM at bfloat16.\n"
        "Drift is the mean difference of log-probabilities, in nats. fp8 is multiplied by torch itself, for oneDNN's way takes 50 times as "
        "long where a CPU has AMX but no fp8. "
        "Seconds include starting the tool; a tiny model says nothing of how long a large one takes.\n\n"
        f"{table}\n{_problems(lines)}"
    )


def machine() -> str:
    """Processor, cores and what of its abilities decides which kernels vLLM has."""
    try:
        cpu = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "an unknown processor"
    name = next((line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")), platform.machine())
    flags = next((line.split() for line in cpu.splitlines() if line.startswith("flags")), [])
    able = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile") if flag in flags]
    return f"{name}, {os.cpu_count()} cores, {', '.join(able)}"


def _cells(line: Line) -> tuple[str, ...]:
    tool, took = line.made_by or line.way.tool, "-" if line.seconds is None else f"{line.seconds:.0f}"
    if line.report is None:
        loads = "not in time" if line.overdue else "**no**" if line.made_by else "not made"
        made = (took, f"{line.size_bytes:,}") if line.made_by else ("-", "-")
        return (tool, line.way.what, *made, loads, "-", "-", "-", "-")
    report = line.report
    return (
        tool,
        line.way.what,
        took,
        f"{line.size_bytes:,}",
        "yes",
        f"{report.agreement.count} of {report.agreement.n}",
        f"{report.identical.count} of {report.identical.n}",
        f"{report.mean_drift:.4f}",
        f"{report.max_drift:.3f}",
    )


def _prompts(lines: list[Line]) -> int:
    return 2 * max((line.report.prompts for line in lines if line.report), default=0)


def _problems(lines: list[Line]) -> str:
    return "".join(f"\n* {line.way.tool}, {line.way.what}: {line.problem}\n" for line in lines if line.problem)


def _in_one_line(error: Exception) -> str:
    """The first line, and the last one that names an error: between them stands a tool's own traceback."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in reversed(said) if "Error" in line), "")
    return f"{said[0]} {named}".strip()
