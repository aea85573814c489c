"""The plan shown to its user: an example to start from, a plan with all its defaults, and the schema editors understand."""

from __future__ import annotations

import json

import yaml

from crossfade.plan.gates import implied_kind
from crossfade.plan.model import Plan, RampPlan

_EXAMPLE = """\
# A Crossfade plan. Everything but name, source and models has a default: crossfade plan show FILE
name: support-chat

source:
  url: http://127.0.0.1:11435            # where Ollama listens; clients talk to the router below

models:
  - ollama: llama3.1:8b-instruct-q4_K_M  # as 'ollama list' writes it
    huggingface: meta-llama/Llama-3.1-8B-Instruct   # safetensors of the very same model
    revision: main                       # resolved to a commit before the download and pinned there
    quantize: none                       # none | auto | fp8 | w8a8 | awq | gptq
    aliases: []                          # further names clients use for it

target:
  runtime: {port: 8000}                  # vLLM is started here, on loopback

router:
  listen: 127.0.0.1:11434                # where clients connect

prometheus:
  url: http://127.0.0.1:9090             # must scrape the router and vLLM

baseline: 2h                             # how long the source is watched before anything moves

gates:                                   # written here they replace the default ones; before: says where each is asked
  router_scraped: {promql: 'min(up{job="crossfade-router"})', above: 0.5, before: [download, quantize, deploy, parity, rehearse, ramp]}
  error_rate: {at_most: 1%, no_worse_than_source: 2x}
  ttft_p95: {no_worse_than_source: 1.3x}
  kv_cache: {promql: 'max(vllm:kv_cache_usage_perc)', below: 0.9, before: [ramp, step, cutover]}

parity:
  suite: prompts.jsonl                   # {"prompt": "...", "answer": "..."} a line; the answer may be left out
  identical_at_least: 90%
  correct_lost_at_most: 2%

ramp:
  steps: [1%, 5%, 25%, 50%, 100%]
  hold: 5m                               # at least this long on each step
  min_requests: 300                      # and at least this many requests on the target

soak: 24h                                # the source stays warm; the same gates can still bring users back
"""


_EXAMPLE_SUITE = """\
{"prompt": "What is the capital of France? Answer with one word.", "answer": "Paris"}
{"prompt": "What is 17 + 25? Answer with the number alone.", "answer": "42"}
{"prompt": "Name three things to check before a server is restarted."}
"""

EXAMPLE_SUITE_NAME = "prompts.jsonl"
"""The suite the example plan names, beside it."""


def example_plan() -> str:
    """A short plan with comments, ready to be edited; loads as it stands where `example_suite` lies beside it."""
    return _EXAMPLE


def example_suite() -> str:
    """Three prompts that show a suite's form. They prove nothing about a user's own work, which needs a hundred of its prompts."""
    return _EXAMPLE_SUITE


def show_plan(plan: Plan) -> str:
    """`plan` as YAML with every default written out in the units people write; loading it gives an equal plan.

    Fields without a value (no `store:`, no `suite:`, a gate's unused limit) are left out, and so is a gate's `kind` where
    its name says it.
    """
    written = plan.model_dump(mode="json", exclude_none=True)
    for name, gate in written["gates"].items():
        if gate["kind"] == implied_kind(name, is_promql="promql" in gate):
            del gate["kind"]
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def plan_schema() -> str:
    """JSON schema of a plan file, for editors; it knows fields and types, `crossfade plan check` knows the rest."""
    # the schema of what is written, not of what is read: its defaults carry their units
    schema = Plan.model_json_schema(mode="serialization")
    schema["$defs"]["RampPlan"]["properties"]["steps"]["default"] = RampPlan().model_dump(mode="json")["steps"]
    gate = schema["properties"]["gates"]["additionalProperties"]
    # vLLM's own signals are known by the gate's name alone
    schema["$defs"]["PromqlGate"]["required"] = [one for one in schema["$defs"]["PromqlGate"].get("required", []) if one != "promql"]
    # a gate's name decides its kind, which no schema can say; without a written kind several may fit
    schema["properties"]["gates"]["additionalProperties"] = {"anyOf": gate["oneOf"]}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
