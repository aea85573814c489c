"""Which of vLLM's parsers fits a family of models: a first guess by data, which the plan can overrule.

A parser turns what a model writes into tool calls or reasoning. Without one, tools get status 400 (H5) or raw markup in the text (H6);
with a reasoning parser on a model that does not reason, the answer itself may be taken for reasoning (H7). So a parser is only
chosen where the model's own chat template speaks of tools, or of thinking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One row. `types` are values of `model_type` in config.json; `named` (a regular expression) tells relatives with one type apart."""

    name: str
    types: tuple[str, ...]
    tool_parser: str = ""
    reasoning_parser: str = ""
    named: str = ""

    def holds(self, model_type: str, repo: str) -> bool:
        """Whether a model of that type, published under that name, belongs to the family."""
        fits = not self.types or model_type in self.types
        return fits and re.search(self.named, repo.lower()) is not None


@dataclass(frozen=True)
class Parsers:
    """What vLLM is told; empty for none. `why` is for a person."""

    tool: str
    reasoning: str
    why: str


FAMILIES: tuple[Family, ...] = (
    Family("DeepSeek R1 distills", ("llama", "qwen2", "qwen3"), "", "deepseek_r1", r"r1.*distill|deepseek-r1-0528-qwen3"),
    Family("Hermes 2 Pro and 3", ("llama", "mistral", "qwen2"), "hermes", "", r"hermes-[23]"),
    Family("xLAM", ("llama", "qwen2", "mistral"), "xlam", "", r"xlam"),
    Family("Llama 3", ("llama",), "llama3_json", "", r"llama-?3[.-][123]|llama3[.-][123]"),
    Family("Llama 4", ("llama4", "llama4_text"), "llama4_pythonic"),
    Family("QwQ", ("qwen2",), "hermes", "deepseek_r1", r"qwq"),
    Family("Qwen2.5", ("qwen2", "qwen2_moe", "qwen2_5_vl"), "hermes"),
    Family("Qwen3-Coder", ("qwen3", "qwen3_moe", "qwen3_next"), "qwen3_xml", "", r"coder"),
    Family("Qwen3", ("qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe", "qwen3_next"), "hermes", "qwen3"),
    Family("Qwen3.5 and later", ("qwen3_5", "qwen3_5_moe"), "qwen3_xml", "qwen3"),
    Family("Magistral", ("mistral", "mistral3"), "mistral", "mistral", r"magistral"),
    Family("Mistral", ("mistral", "mixtral", "mistral3", "ministral3"), "mistral"),
    Family("gpt-oss", ("gpt_oss",), "openai", "openai_gptoss"),
    Family("DeepSeek V3.1", ("deepseek_v3",), "deepseek_v31", "deepseek_v3", r"v3\.1"),
    Family("DeepSeek V3.2", ("deepseek_v32",), "deepseek_v32"),
    Family("DeepSeek V4", ("deepseek_v4",), "deepseek_v4", "deepseek_v4"),
    Family("DeepSeek R1", ("deepseek_v3",), "deepseek_v3", "deepseek_r1", r"r1"),
    Family("DeepSeek V3", ("deepseek_v3",), "deepseek_v3"),
    Family("FunctionGemma", (), "functiongemma", "", r"functiongemma"),
    Family("Gemma 4", ("gemma4", "gemma4_text"), "gemma4", "gemma4"),
    Family("Phi-4-mini", ("phi3",), "phi4_mini_json", "", r"phi-4-mini"),
    Family("Granite 4", ("granitemoehybrid",), "granite4"),
    Family("Granite 3", ("granite", "granitemoe"), "granite", "granite"),
    Family("GLM 4.7", ("glm4_moe",), "glm47", "glm47", r"4\.7"),
    Family("GLM 4.5 and 4.6", ("glm4_moe",), "glm45", "glm45"),
    Family("Command A", ("cohere2",), "cohere_command3", "cohere_command3", r"reasoning"),
    Family("Kimi K2", ("kimi_k2",), "kimi_k2", "kimi_k2"),
    Family("MiniMax M2", ("minimax_m2", "minimax"), "minimax_m2", "minimax_m2"),
    Family("Hunyuan A13B", ("hunyuan_v1_moe",), "hunyuan_a13b", "hunyuan_a13b"),
    Family("Seed-OSS", ("seed_oss",), "seed_oss", "seed_oss"),
    Family("ERNIE 4.5", ("ernie4_5", "ernie4_5_moe"), "ernie45", "ernie45"),
    Family("Step3", ("step3", "step3_text", "step3_vl"), "step3", "step3"),
    Family("OLMo 3", ("olmo3",), "olmo3", "olmo3"),
    Family("LFM2", ("lfm2", "lfm2_moe"), "lfm2"),
    Family("InternLM 2.5", ("internlm2",), "internlm"),
    Family("Jamba", ("jamba",), "jamba"),
)
"""Tried in order; a row before another is the narrower one. Names are those of the pinned vLLM."""


def family_of(model_type: str, repo: str) -> Family | None:
    """The family of a model by its `model_type` and the name it was published under; None for one that is not in the table."""
    return next((row for row in FAMILIES if row.holds(model_type, repo)), None)


def parsers_for(model_type: str, repo: str, template: str) -> Parsers:
    """The parsers to start vLLM with. `template` is the chat template that will be used."""
    family = family_of(model_type, repo)
    if family is None:
        return Parsers("", "", f"no parser is known for {model_type or 'this model'}, so tools in a request get status 400")
    tool = family.tool_parser if re.search(r"\btools\b", template) else ""
    reasoning = family.reasoning_parser if re.search(r"think|reason", template, re.IGNORECASE) else ""
    pairs = (("tools", family.tool_parser, tool), ("thinking", family.reasoning_parser, reasoning))
    silent = " and ".join(what for what, has, chosen in pairs if has and not chosen)
    return Parsers(tool, reasoning, f"a model of {family.name}" + (f" whose chat template knows no {silent}" if silent else ""))
