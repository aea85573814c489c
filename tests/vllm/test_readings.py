"""Numbers out of /metrics. The page is one of vLLM 0.32's CPU build after one request, its log line said 21,760 tokens of KV cache."""

from pathlib import Path

from crossfade.vllm.readings import read_metrics

PAGE = (Path(__file__).parent / "metrics" / "vllm-0.32-cpu.prom").read_text()


def test_a_real_page_gives_steps_tokens_and_the_room_its_log_speaks_of():
    now = read_metrics(PAGE)
    assert (now.steps, now.tokens, now.finished, now.preemptions, now.kv_share) == (3, 18, 1, 0, 0)
    assert now.kv_tokens == 21_760
    assert not now.busy


def test_engines_of_one_server_are_added_and_the_fullest_counts():
    two = "\n".join(PAGE.replace('engine="0"', f'engine="{number}"') for number in (0, 1))
    now = read_metrics(two + 'vllm:kv_cache_usage_perc{engine="2"} 0.75\nvllm:num_requests_running{engine="1"} 4\n')
    assert (now.steps, now.kv_tokens, now.kv_share, now.running) == (6, 43_520, 0.75, 4)
    assert now.busy


def test_a_room_that_is_not_said_is_none_and_not_zero():
    silent = PAGE.replace('kv_cache_size_tokens="21760"', 'kv_cache_size_tokens="None"')
    assert read_metrics(silent.replace('num_gpu_blocks="170"', 'num_gpu_blocks="None"')).kv_tokens is None
    assert read_metrics("").kv_tokens is None


def test_the_engines_own_count_of_tokens_comes_before_blocks_times_their_size():
    shared = PAGE.replace('kv_cache_size_tokens="21760"', 'kv_cache_size_tokens="9000"')
    assert read_metrics(shared).kv_tokens == 9000
    older = PAGE.replace('kv_cache_size_tokens="21760",', "")
    assert read_metrics(older).kv_tokens == 170 * 128
