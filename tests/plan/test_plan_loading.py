import json
import os
import re

import pytest

from crossfade.errors import PlanInvalid
from crossfade.plan import load_plan
from crossfade.plan.load import parse_plan

GOOD = """\
name: chat
source: {url: http://127.0.0.1:11435}
models:
  - ollama: llama3.1:8b
    huggingface: meta-llama/Llama-3.1-8B-Instruct
ramp:
  every: 20s
  steps: [10%, 50%, 100%]
gates:
  error_rate:
    at_most: 1%
parity: {skip: the test of a plan}
"""


def refused(tmp_path, text):
    """What `load_plan` says of a file that holds `text`: a line number and a message for each problem."""
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(PlanInvalid) as caught:
        load_plan(str(file))
    lines = str(caught.value).splitlines()
    found = [re.fullmatch(re.escape(str(file)) + r":(\d+): (.+)", line) for line in lines]
    assert all(found), lines
    return [(int(match[1]), match[2]) for match in found]


def test_a_short_plan_loads_with_its_defaults(tmp_path):
    (tmp_path / "plan.yaml").write_text(GOOD)
    source = load_plan(str(tmp_path / "plan.yaml"))
    assert source.plan.migration_names() == ("chat/llama3.1-8b",)
    assert source.plan.ramp.steps == (1000, 5000, 10_000)
    assert source.plan.soak == 86_400
    assert source.text == GOOD
    assert len(source.digest) == 64


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("name: chat", "nmae: chat", 1, "nmae: no such field"),
        ("  every: 20s", "  evry: 20s", 7, "ramp.evry: no such field"),
        ("    at_most: 1%", "    at_most: 1%\n    att_most: 2%", 12, "gates.error_rate.att_most: no such field"),
        ("name: chat\n", "", 1, "name: is required and missing"),
        ("    huggingface: meta-llama/Llama-3.1-8B-Instruct\n", "", 4, "models.0.huggingface: is required and missing"),
        ("{url: http://127.0.0.1:11435}", "{}", 2, "source.url: is required and missing"),
        ("[10%, 50%, 100%]", "[50%, 10%, 100%]", 8, "ramp.steps: steps must rise"),
        ("[10%, 50%, 100%]", "[10%, 10%, 100%]", 8, "ramp.steps: steps must rise"),
        ("[10%, 50%, 100%]", "[0%, 100%]", 8, "ramp.steps: steps must rise"),
        ("[10%, 50%, 100%]", "[]", 8, "ramp.steps: steps must rise"),
        ("[10%, 50%, 100%]", "[10%, 50%]", 8, "ramp.steps: the last step must be 100%"),
        ("[10%, 50%, 100%]", "[10%, 50%, 150%]", 8, "ramp.steps.2: '150%' is above 100%"),
        ("[10%, 50%, 100%]", "\n    - 10%\n    - 150%", 10, "ramp.steps.1: '150%' is above 100%"),
        ("[10%, 50%, 100%]", "[10, 50, 100]", 8, "ramp.steps.0: 10 is not a percentage"),
        ("every: 20s", "every: 20", 7, "ramp.every: 20 is not a duration; write it with its unit"),
        ("every: 20s", "every: no", 7, "ramp.every: False is not a duration"),
        ("at_most: 1%", "at_most: 0.01", 11, "gates.error_rate.at_most: 0.01 is not a percentage"),
        (
            "    at_most: 1%",
            "    at_most: 1%\n  ttft_p100: {at_most: 1s}",
            12,
            "gates.ttft_p100: 'ttft_p100' is not a latency gate: no percentile 100",
        ),
        ("http://127.0.0.1:11435", "127.0.0.1:11435", 2, "source.url: '127.0.0.1:11435' is not an address"),
        ("http://127.0.0.1:11435", "http://127.0.0.1:99999", 2, "source.url: 'http://127.0.0.1:99999' is not an address"),
        ("huggingface: meta-llama/Llama-3.1-8B-Instruct", "huggingface: llama", 5, "models.0.huggingface: "),
        ("    huggingface: m", "    quantize: q4\n    huggingface: m", 5, "models.0.quantize: "),
        ("    huggingface: m", "    aliases: [bot, BOT]\n    huggingface: m", 3, "models: the name 'BOT' is used twice"),
        ("    huggingface: m", "    aliases: ['llama3.1:8B']\n    huggingface: m", 3, "models: the name 'llama3.1:8B' is used twice"),
        ("ollama: llama3.1:8b", f"ollama: {'m' * 80}", 3, "models: plan and model name together are longer than 70"),
        ("gates:", "  every: 30s\ngates:", 9, "every: is written twice, first in line 7"),
        ("gates:", "name: again\ngates:", 9, "name: is written twice, first in line 1"),
        ("  every: 20s", "\tevery: 20s", 7, "this is not YAML"),
        ("name: chat", "name: [chat", 2, "this is not YAML"),
        ("name: chat", "name: 2026-13-45", 1, "this is not YAML"),
        ("every: 20s", "every: \x01", 7, "this is not YAML"),
        ("name: chat", "name: on", 1, "name: "),
        ("http://127.0.0.1:11435", "https://ollama.internal", 2, "source.url: 'https://ollama.internal' is https, and the router speaks"),
        ("gates:", "router: {listen: 'localhost:11434'}\ngates:", 9, "router.listen: 'localhost' is not an IP address"),
        ("gates:", "router: {listen: '127.0.0.1'}\ngates:", 9, "router.listen: '127.0.0.1' is not host:port"),
        ("gates:", "router: {metrics_listen: 'router:9902'}\ngates:", 9, "router.metrics_listen: 'router' is not an IP address"),
        ("gates:", "guard: {window: 0}\ngates:", 9, "guard.window: 0s is too short to work; write at least 2s"),
        ("gates:", "guard: {window: 1.9s}\ngates:", 9, "guard.window: 1.9s is too short"),
        ("every: 20s", "every: 0", 7, "ramp.every: 0s is too short to work; write at least 1s"),
        ("every: 20s", "every: 20s\n  deadline: 4m", 6, "ramp: deadline: 4m is over before one step was held for hold: 5m"),
        ("gates:", "prometheus: {timeout: 0}\ngates:", 9, "prometheus.timeout: 0s is too short"),
        ("gates:", "prometheus: {stale_after: 0s}\ngates:", 9, "prometheus.stale_after: 0s is too short"),
        ("{skip:", "{suite: prompts.jsonl, skip:", 12, "parity: suite: and skip: contradict each other"),
        ("{url: http://127.0.0.1:11435}", "&a [*a]", 2, "this value contains itself through an alias"),
        ("{url: http://127.0.0.1:11435}", "&a {url: *a}", 2, "this value contains itself through an alias"),
    ],
)
def test_each_mistake_is_named_with_its_line_its_field_and_what_to_write(tmp_path, old, new, line, said):
    assert old in GOOD
    problems = refused(tmp_path, GOOD.replace(old, new, 1))
    assert [number for number, message in problems if message.startswith(said)] == [line], problems


@pytest.mark.parametrize("field", ["source: {url: ", "prometheus: {url: "])
@pytest.mark.parametrize("secret", ["user:hunter2@", "hunter2@", "user:hunter2/x@"])
def test_an_address_with_a_secret_is_refused_without_repeating_it(tmp_path, field, secret):
    text = GOOD.replace("source: {url: http://127.0.0.1:11435}\n", "") + "prometheus: {url: http://p}\nsource: {url: http://s}\n"
    ((_, message),) = refused(tmp_path, text.replace(f"{field}http://", f"{field}http://{secret}"))
    assert "stored in the journal" in message
    assert "hunter2" not in message


def test_brackets_without_an_end_and_aliases_of_aliases_are_answered(tmp_path):
    assert "nested deeper than any plan" in refused(tmp_path, "name: " + "[" * 5_000 + "]" * 5_000)[0][1]
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert refused(tmp_path, f"a0: &a0 ha\n{laughs}")


def test_two_equal_models_are_refused(tmp_path):
    second = "  - ollama: LLAMA3.1:8b\n    huggingface: a/b\n"
    assert refused(tmp_path, GOOD.replace("ramp:", second + "ramp:")) == [
        (3, "models: the name 'LLAMA3.1:8b' is used twice; each model name and alias may appear once")
    ]


def test_all_mistakes_are_named_at_once(tmp_path):
    problems = refused(tmp_path, GOOD.replace("every: 20s", "every: 20").replace("name: chat", "name: Chat!"))
    assert [line for line, _ in problems] == [1, 7]


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n", "42\n", "# only a comment\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    assert refused(tmp_path, text)[0][1].startswith("a plan is a mapping with name, source and models")


def test_a_missing_file_is_named():
    with pytest.raises(PlanInvalid, match=r"nowhere/plan\.yaml: cannot read the plan: No such file.*crossfade plan init"):
        load_plan("nowhere/plan.yaml")


def test_a_folder_is_no_plan(tmp_path):
    with pytest.raises(PlanInvalid, match="cannot read the plan: Is a directory"):
        load_plan(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_nobody_may_read_is_named(tmp_path):
    (tmp_path / "plan.yaml").write_text(GOOD)
    (tmp_path / "plan.yaml").chmod(0)
    with pytest.raises(PlanInvalid, match="Permission denied"):
        load_plan(str(tmp_path / "plan.yaml"))


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "plan.yaml").write_bytes("name: grüße\n".encode("latin-1"))
    with pytest.raises(PlanInvalid, match=r"plan\.yaml.*not UTF-8"):
        load_plan(str(tmp_path / "plan.yaml"))


def test_a_pasted_plan_is_read_without_a_file_and_named_so():
    assert load_plan(GOOD).plan.name == "chat"
    with pytest.raises(PlanInvalid, match=r"^pasted plan:7: ramp\.every"):
        load_plan(GOOD.replace("20s", "20"))


def test_paths_are_relative_to_the_plans_folder(tmp_path):
    text = GOOD.replace("skip: the test of a plan", "suite: ../prompts.jsonl") + "store: weights\n"
    plan = parse_plan(text, origin="p", folder=tmp_path / "plans").plan
    assert plan.store == tmp_path / "plans" / "weights"
    assert plan.parity.suite == tmp_path / "plans" / "../prompts.jsonl"
    assert parse_plan(GOOD + "store: /srv/x\n", origin="p", folder=tmp_path).plan.store.as_posix() == "/srv/x"


def test_the_digest_changes_with_every_character():
    assert load_plan(GOOD).digest != load_plan(GOOD + "\n").digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{flags: {host: 0.0.0.0}}", "host cannot be set here"),
        ("{flags: {trust_remote_code: true}}", "trust_remote_code cannot be set here"),
        ("{flags: {no_enforce_eager: true}}", "no_enforce_eager cannot be set here"),
        ("{flags: {--max-num-batched-tokens: 1}}", "write it without dashes in front"),
        ("{sampling: {temperature: warm}}", "sampling"),
    ],
)
def test_a_flag_that_the_plan_says_elsewhere_or_that_breaks_a_promise_is_refused(tmp_path, options, said):
    text = GOOD + f"target: {{vllm: {options}}}\n"
    assert any(said in message for _, message in refused(tmp_path, text))


def test_files_for_vllm_are_found_beside_the_plan(tmp_path):
    (tmp_path / "plan.yaml").write_text(GOOD + "target: {vllm: {chat_template: own.jinja, api_key_file: /etc/key}}\n")
    vllm = load_plan(str(tmp_path / "plan.yaml")).plan.target.vllm
    assert (vllm.chat_template, str(vllm.api_key_file)) == (tmp_path / "own.jinja", "/etc/key")


def test_a_port_left_to_us_is_the_same_each_time_and_another_for_another_plan(tmp_path):
    ports = []
    for name in ("chat", "chat", "support"):
        (tmp_path / "plan.yaml").write_text(GOOD.replace("name: chat", f"name: {name}") + "target: {runtime: {port: auto}}\n")
        plan = load_plan(str(tmp_path / "plan.yaml")).plan
        assert plan.target.address == f"127.0.0.1:{plan.target.runtime.port}"
        ports.append(plan.target.runtime.port)
    assert ports[0] == ports[1] != ports[2]
    assert all(20_000 <= port < 30_000 for port in ports)


def test_a_whole_number_among_the_sampling_defaults_stays_whole_because_vllm_takes_no_other_top_k(tmp_path):
    text = GOOD + "target: {vllm: {sampling: {temperature: 0.8, top_k: 40}}}\n"
    assert json.dumps(dict(load_plan(text).plan.target.vllm.sampling)) == '{"temperature": 0.8, "top_k": 40}'
