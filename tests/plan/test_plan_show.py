import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.plan.load import parse_plan
from crossfade.plan.model import Plan
from crossfade.plan.show import example_plan, plan_schema, show_plan

FULL = """\
name: full
source: {url: http://ollama:11434}
models: [{ollama: "lab:latest", huggingface: crossfade/lab-model, quantize: w8a8, aliases: [bot, "on", "größe"]}]
target:
  runtime: {port: 8001, start_within: 90s}
  vllm: {max_model_len: 512, kv_cache: 1.5GiB, enforce_eager: true}
  reach: 10.0.0.7:8001
store: /srv/crossfade
gates:
  error_rate: {at_most: 0.333%}
  duration_p99.9: {at_most: 1.25s, no_worse_than_source: 1.3333x, before: [soak]}
  ttft_custom: {promql: 'max(x{a="b"}) > 0', above: 0.1, breach: roll_back}
  heartbeat: {}
parity: {suite: /srv/prompts.jsonl}
ramp: {steps: [0.01%, 12.5%, 100%], hold: 1h30m0.5s, at_deadline: roll_back}
note: "two\\nlines: # and a hash"
"""


def read(text: str) -> Plan:
    """The plan alone: the files these plans name are nowhere."""
    return parse_plan(text, origin="test", folder=Path("/plans")).plan


@pytest.mark.parametrize("text", [example_plan(), FULL])
def test_a_shown_plan_loads_as_the_same_plan(text):
    plan = read(text)
    assert read(show_plan(plan)) == plan


def test_what_is_shown_has_every_default_in_the_units_people_write():
    shown = yaml.safe_load(show_plan(read(example_plan())))
    assert shown["soak"] == "1d"
    assert shown["guard"] == {
        "window": "10s", "errors_at_least": 5, "error_share_above": "20%", "slow_after": "10s", "slow_share_above": "50%",
    }  # fmt: skip
    assert shown["ramp"]["steps"] == ["1%", "5%", "25%", "50%", "100%"]
    assert shown["gates"]["router_scraped"]["before"] == ["download", "quantize", "deploy", "parity", "rehearse", "ramp"]
    assert shown["gates"]["error_rate"] == {"at_most": "1%", "no_worse_than_source": "2x", "before": ["step", "cutover", "soak"]}


def test_a_kind_that_the_name_does_not_say_is_kept():
    text = example_plan().replace("  kv_cache:", "  error_ratio: {kind: error_rate, at_most: 1%}\n  kv_cache:")
    plan = read(text)
    assert read(show_plan(plan)) == plan
    assert yaml.safe_load(show_plan(plan))["gates"]["error_ratio"]["kind"] == "error_rate"


@settings(deadline=None)
@given(st.lists(st.integers(1, 9_999), unique=True, max_size=6), st.integers(0, 10**7), st.integers(0, 10_000))
def test_any_ramp_survives_being_shown(steps, hold_ms, share):
    row = ", ".join(f"{step / 100}%" for step in [*sorted(steps), 10_000])
    plan = read(FULL.replace("[0.01%, 12.5%, 100%]", f"[{row}]").replace("1h30m0.5s", f"{hold_ms}ms").replace("0.333%", f"{share / 100}%"))
    assert read(show_plan(plan)) == plan


@pytest.mark.parametrize("text", [example_plan(), FULL, show_plan(read(FULL))])
def test_plans_that_load_satisfy_the_schema(text):
    jsonschema.validate(yaml.safe_load(text), json.loads(plan_schema()))


@pytest.mark.parametrize(("old", "new"), [("soak:", "soaak:"), ("quantize: none", "quantize: q4"), ("name: support-chat\n", "")])
def test_the_schema_refuses_what_an_editor_should_underline(old, new):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(example_plan().replace(old, new, 1)), json.loads(plan_schema()))


def test_the_schemas_defaults_carry_their_units():
    parts = json.loads(plan_schema())["$defs"]
    assert parts["RampPlan"]["properties"]["hold"]["default"] == "5m"
    assert parts["RampPlan"]["properties"]["steps"]["default"] == ["1%", "5%", "25%", "50%", "100%"]
    assert parts["ParityPlan"]["properties"]["identical_at_least"]["default"] == "90%"
