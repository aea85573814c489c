from dataclasses import replace
from pathlib import Path

from crossfade.vllm.command import ServeSpec, command, environment, served_names

SPEC = ServeSpec(
    python=Path("/env/bin/python"),
    weights=Path("/weights/tiny"),
    served_names=("tiny:latest", "tiny", "bot"),
    port=8123,
    device="cpu",
    cache=Path("/cache"),
    max_model_len=512,
    max_num_seqs=16,
    dtype="bfloat16",
    kv_cache_bytes=64 << 20,
    enforce_eager=True,
)


def values(arguments, flag):
    rest = arguments[arguments.index(flag) + 1 :]
    return rest[: next((at for at, value in enumerate(rest) if value.startswith("--")), len(rest))]


def test_the_command_line_of_the_lab():
    assert command(SPEC) == [
        *("/env/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/weights/tiny"),
        *("--served-model-name", "tiny:latest", "tiny", "bot", "--host", "127.0.0.1", "--port", "8123"),
        *("--generation-config", "vllm", "--max-num-seqs", "16", "--dtype", "bfloat16", "--uvicorn-log-level", "warning"),
        *("--max-model-len", "512", "--enforce-eager", "--distributed-executor-backend", "uni"),
        *("--kv-cache-memory-bytes", "67108864", "--shutdown-timeout", "30"),
    ]


def test_what_is_auto_is_left_to_vllm():
    arguments = command(replace(SPEC, max_model_len="auto", kv_cache_bytes="auto", enforce_eager=False))
    assert not {"--max-model-len", "--kv-cache-memory-bytes", "--enforce-eager"} & set(arguments)


def test_a_gpu_server_runs_with_its_own_executor_and_threads():
    spec = replace(SPEC, device="cuda")
    assert "--distributed-executor-backend" not in command(spec)
    assert not {"OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING"} & set(environment(spec, {}))


def test_what_sizing_found_reaches_a_gpu_server_and_no_other():
    sized = replace(SPEC, tensor_parallel_size=2, gpu_memory_utilization=0.7, devices=(1, 3))
    on_gpu = replace(sized, device="cuda")
    assert values(command(on_gpu), "--tensor-parallel-size") == ["2"]
    assert values(command(on_gpu), "--gpu-memory-utilization") == ["0.7"]
    assert environment(on_gpu, {"CUDA_VISIBLE_DEVICES": "0"})["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert command(sized) == command(SPEC)
    assert "CUDA_VISIBLE_DEVICES" not in environment(sized, {})


def test_every_name_is_a_value_of_its_own():
    assert values(command(SPEC), "--served-model-name") == ["tiny:latest", "tiny", "bot"]


def test_repository_sampling_defaults_never_apply():
    assert values(command(SPEC), "--generation-config") == ["vllm"]


def test_a_tool_parser_comes_with_the_flag_that_lets_it_be_used():
    arguments = command(replace(SPEC, tool_parser="hermes", reasoning_parser="qwen3"))
    assert "--enable-auto-tool-choice" in arguments
    assert values(arguments, "--tool-call-parser") == ["hermes"]
    assert values(arguments, "--reasoning-parser") == ["qwen3"]
    assert not {"--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser"} & set(command(SPEC))


def test_what_a_user_says_about_answers_reaches_the_server():
    said = replace(
        SPEC,
        chat_template=Path("/t.jinja"),
        chat_template_kwargs={"enable_thinking": False},
        generation_config="auto",
        sampling={"top_k": 40, "temperature": 0.8},
        drain_s=90,
    )
    arguments = command(said)
    assert values(arguments, "--chat-template") == ["/t.jinja"]
    assert values(arguments, "--default-chat-template-kwargs") == ['{"enable_thinking": false}']
    assert values(arguments, "--generation-config") == ["auto"]
    assert values(arguments, "--override-generation-config") == ['{"temperature": 0.8, "top_k": 40}']
    assert values(arguments, "--shutdown-timeout") == ["90"]


def test_further_flags_are_written_as_vllm_reads_them():
    given = {"max_num_batched_tokens": 8192, "enable_prefix_caching": False, "language_model_only": True, "kv-cache-dtype": "fp8"}
    assert command(replace(SPEC, flags=given))[-6:] == [
        *("--max-num-batched-tokens", "8192", "--no-enable-prefix-caching"),
        *("--language-model-only", "--kv-cache-dtype", "fp8"),
    ]


def test_a_key_is_in_the_environment_and_nowhere_else():
    spec = replace(SPEC, api_key="sk-secret")
    assert environment(spec, {})["VLLM_API_KEY"] == "sk-secret"
    assert "sk-secret" not in " ".join(command(spec)) + repr(spec)
    assert "VLLM_API_KEY" not in environment(SPEC, {})


def test_a_name_without_tag_is_served_with_and_without_latest():
    assert served_names("tiny", ["Bot:latest"]) == ("tiny", "tiny:latest", "Bot:latest", "bot", "bot:latest")


def test_a_tag_is_never_dropped():
    assert served_names("llama3.1:8b") == ("llama3.1:8b",)


def test_hidden_names_are_served_as_they_are():
    assert served_names("tiny", hidden=["crossfade-rehearsal:x"])[-1] == "crossfade-rehearsal:x"


def test_no_name_is_served_twice():
    names = served_names("tiny:latest", ["tiny", "TINY"], ["tiny"])
    assert len(names) == len(set(names))


def test_the_environment_is_offline_and_quiet():
    given = environment(SPEC, {"PATH": "/bin"})
    assert given["PATH"] == "/bin"
    assert given["HF_HUB_OFFLINE"] == given["VLLM_NO_USAGE_STATS"] == given["DO_NOT_TRACK"] == "1"


def test_neither_tokens_nor_a_kv_cache_override_reach_the_server():
    base = {"HF_TOKEN": "hf_secret", "PREFECT_API_KEY": "key", "VLLM_CPU_KVCACHE_SPACE": "", "PYTHONPATH": "/mine"}
    assert not set(base) & set(environment(SPEC, base))


def test_the_lab_a_server_belongs_to_stays_known_to_it() -> None:
    assert environment(SPEC, {"CROSSFADE_LAB": "/somewhere", "CROSSFADE_HOME": "/home"})["CROSSFADE_LAB"] == "/somewhere"
    assert "CROSSFADE_LAB" not in environment(SPEC, {})
