"""The tools that quantize. A further tool is a further `Backend` and a worker script beside the first one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crossfade.errors import UserError
from crossfade.home import CHECKOUT

Scheme = Literal["none", "auto", "fp8", "w8a8", "awq", "gptq"]


@dataclass(frozen=True)
class Backend:
    """A tool in its own environment, driven by a script that reads one job and prints one JSON object a line.

    `data_free` schemes never look at calibration prompts; `needs_prompts` schemes cannot do without.
    """

    tool: str
    environment: str
    worker: Path
    schemes: frozenset[str]
    data_free: frozenset[str]
    needs_prompts: frozenset[str]

    def version(self) -> str:
        """The version that the environment's lock pins; the same on every machine with this checkout, installed or not."""
        lock = CHECKOUT / "deployments" / "environments" / f"{self.environment}.lock.txt"
        pin = re.search(rf"^{re.escape(self.tool)}==([^\s;]+)", lock.read_text(), re.MULTILINE)
        if not pin:
            raise UserError(f"{lock} pins no version of {self.tool}; make the lock again.")
        return pin[1]


LLM_COMPRESSOR = Backend(
    tool="llmcompressor",
    environment="llmcompressor",
    worker=CHECKOUT / "deployments" / "quantizers" / "llmcompressor_worker.py",
    schemes=frozenset({"fp8", "w8a8", "awq", "gptq"}),
    data_free=frozenset({"fp8"}),
    needs_prompts=frozenset({"awq", "gptq"}),
)

BACKENDS = (LLM_COMPRESSOR,)


def backend_for(scheme: Scheme) -> Backend:
    """The first tool that can make the scheme; raises UserError when none can."""
    if scheme == "auto":
        raise UserError("quantize: auto is not decided yet at this point; write none, fp8, w8a8, awq or gptq into the plan.")
    for backend in BACKENDS:
        if scheme in backend.schemes:
            return backend
    raise UserError(f"no tool makes {scheme} weights; write none, fp8, w8a8, awq or gptq into the plan.")
