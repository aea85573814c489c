"""The tools that quantize. A further tool is a further `Backend` and a worker script beside the first one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crossfade.errors import UserError
from crossfade.home import CHECKOUT

Scheme = Literal["none", "auto", "fp8", "w8a8", "awq", "gptq"]
Tool = Literal["llm-compressor", "autoawq"]

SCRIPTS = CHECKOUT / "deployments" / "quantizers"


@dataclass(frozen=True)
class Backend:
    """A tool in its own environment, driven by a script that reads one job and prints one JSON object a line.

    `data_free` schemes never look at calibration prompts; `needs_prompts` schemes cannot do without. `remark` is said to whoever uses it.
    """

    tool: str
    environment: str
    worker: Path
    schemes: frozenset[str]
    data_free: frozenset[str]
    needs_prompts: frozenset[str]
    remark: str = ""

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
    worker=SCRIPTS / "llmcompressor_worker.py",
    schemes=frozenset({"fp8", "w8a8", "awq", "gptq"}),
    data_free=frozenset({"fp8"}),
    needs_prompts=frozenset({"awq", "gptq"}),
)

AUTOAWQ = Backend(
    tool="autoawq",
    environment="autoawq",
    worker=SCRIPTS / "autoawq_worker.py",
    schemes=frozenset({"awq"}),
    data_free=frozenset(),
    needs_prompts=frozenset({"awq"}),
    remark="autoawq is archived upstream: it gets no fixes and no new models. llm-compressor makes the same scheme and is looked after.",
)

BACKENDS: dict[Tool, Backend] = {"llm-compressor": LLM_COMPRESSOR, "autoawq": AUTOAWQ}


def backend_for(scheme: Scheme, tool: Tool = "llm-compressor") -> Backend:
    """The tool, if it can make the scheme; raises UserError when it cannot."""
    if scheme == "auto":
        raise UserError("quantize: auto is not decided yet at this point; write none, fp8, w8a8, awq or gptq into the plan.")
    if scheme in BACKENDS[tool].schemes:
        return BACKENDS[tool]
    raise UserError(f"{tool} makes no {scheme} weights; it makes {', '.join(sorted(BACKENDS[tool].schemes))}.")
