"""Which parsers a model gets, by its type, its name and what its chat template speaks of."""

import pytest

from crossfade.assess.families import FAMILIES, parsers_for

FULL = "{%- if tools %}...{% endif %}{% if enable_thinking %}<think>{% endif %}"


@pytest.mark.parametrize(
    ("model_type", "repo", "tool", "reasoning"),
    [
        ("llama", "meta-llama/Llama-3.1-8B-Instruct", "llama3_json", ""),
        ("llama", "meta-llama/Meta-Llama-3.1-70B-Instruct", "llama3_json", ""),
        ("llama", "meta-llama/Llama-3.3-70B-Instruct", "llama3_json", ""),
        ("llama", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "", "deepseek_r1"),
        ("qwen2", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "", "deepseek_r1"),
        ("llama", "NousResearch/Hermes-3-Llama-3.1-8B", "hermes", ""),
        ("llama4", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama4_pythonic", ""),
        ("qwen2", "Qwen/Qwen2.5-Coder-7B-Instruct", "hermes", ""),
        ("qwen2", "Qwen/QwQ-32B", "hermes", "deepseek_r1"),
        ("qwen3", "Qwen/Qwen3-8B", "hermes", "qwen3"),
        ("qwen3_moe", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_xml", ""),
        ("mistral", "mistralai/Mistral-7B-Instruct-v0.3", "mistral", ""),
        ("mistral", "mistralai/Magistral-Small-2506", "mistral", "mistral"),
        ("gpt_oss", "openai/gpt-oss-20b", "openai", "openai_gptoss"),
        ("deepseek_v3", "deepseek-ai/DeepSeek-V3-0324", "deepseek_v3", ""),
        ("deepseek_v3", "deepseek-ai/DeepSeek-R1-0528", "deepseek_v3", "deepseek_r1"),
        ("deepseek_v3", "deepseek-ai/DeepSeek-V3.1", "deepseek_v31", "deepseek_v3"),
        ("phi3", "microsoft/Phi-4-mini-instruct", "phi4_mini_json", ""),
        ("granitemoehybrid", "ibm-granite/granite-4.0-h-small", "granite4", ""),
        ("glm4_moe", "zai-org/GLM-4.7", "glm47", "glm47"),
        ("gemma3", "google/gemma-3-4b-it", "", ""),
    ],
)
def test_a_model_gets_the_parsers_of_its_family(model_type, repo, tool, reasoning):
    found = parsers_for(model_type, repo, FULL)
    assert (found.tool, found.reasoning) == (tool, reasoning)


def test_a_template_that_never_speaks_of_tools_or_thinking_gets_no_parser_for_them():
    found = parsers_for("qwen3", "Qwen/Qwen3-4B", "{{ messages }}")
    assert (found.tool, found.reasoning) == ("", "")
    assert "knows no tools and thinking" in found.why


def test_an_instruct_model_of_a_thinking_family_keeps_its_answer():
    assert parsers_for("qwen3", "Qwen/Qwen3-4B-Instruct-2507", "{%- if tools %}").reasoning == ""


def test_an_unknown_family_is_said_and_not_guessed():
    found = parsers_for("mystery", "somebody/mystery-7b", FULL)
    assert (found.tool, found.reasoning) == ("", "")
    assert "no parser is known for mystery" in found.why


def test_a_relative_of_llama_with_a_format_of_its_own_is_not_taken_for_llama():
    assert parsers_for("llama", "somebody/llama-finetune", FULL).tool == ""


def test_no_row_is_hidden_behind_a_wider_one():
    for at, row in enumerate(FAMILIES):
        for wider in FAMILIES[:at]:
            assert wider.named or not set(row.types) & set(wider.types), f"{row.name} is never reached, {wider.name} comes first"
