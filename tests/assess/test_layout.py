"""What sizing found becomes the server's settings only where the plan leaves them open."""

from dataclasses import replace

import yaml

from crossfade.assess.gpus import Gpu
from crossfade.assess.layout import Layout, expected_load, filled_in, free_bytes, layout_of, planned_load
from crossfade.assess.sizing import Sizing
from crossfade.plan.model import LoadPlan, Plan

PLAN = Plan.model_validate(
    yaml.safe_load(
        "{name: p, source: {url: 'http://127.0.0.1:1'}, models: [{ollama: m, huggingface: a/b}], target: {vllm: {max_num_seqs: 8}}}"
    )
)
LAYOUT = Layout(
    tensor_parallel_size=2, devices=(1, 3), max_model_len=8192, max_num_seqs=40, gpu_memory_utilization=0.7, kv_cache_bytes=5 << 30
)


def with_vllm(**written):
    vllm = PLAN.target.vllm.model_copy(update=written)
    return PLAN.model_copy(update={"target": PLAN.target.model_copy(update={"vllm": vllm})})


def test_every_auto_is_filled_in():
    vllm = filled_in(PLAN, LAYOUT).target.vllm
    assert (vllm.tensor_parallel_size, vllm.devices, vllm.max_model_len, vllm.max_num_seqs) == (2, (1, 3), 8192, 40)
    assert (vllm.gpu_memory_utilization, vllm.kv_cache) == (0.7, 5 << 30)


def test_what_a_person_wrote_stays():
    vllm = filled_in(with_vllm(max_model_len=512, kv_cache=1 << 30), LAYOUT).target.vllm
    assert (vllm.max_model_len, vllm.kv_cache, vllm.tensor_parallel_size) == (512, 1 << 30, 2)


def test_without_a_layout_nothing_changes():
    assert filled_in(PLAN, None) == PLAN


def test_what_sizing_leaves_to_vllm_stays_open():
    assert filled_in(PLAN, LAYOUT.model_copy(update={"kv_cache_bytes": None})).target.vllm.kv_cache == "auto"


def test_numbers_of_gpus_that_only_the_plan_knows_are_not_made_up():
    gpus = Plan.model_validate(PLAN.model_dump(mode="json") | {"target": {"gpus": [{"memory": "24GiB"}]}})
    assert filled_in(gpus, LAYOUT).target.vllm.devices == "auto"


def test_a_sizing_without_gpus_gives_no_layout():
    sizing = Sizing("none", 1, (), 4096, 64, None, 1 << 30, 1 << 30, 1 << 30, ())
    assert layout_of(sizing) is None
    layout = layout_of(replace(sizing, devices=(0,), gpu_memory_utilization=0.92))
    assert layout is not None and (layout.devices, layout.gpu_memory_utilization) == ((0,), 0.92)


def test_a_planned_load_is_counted_by_littles_law():
    load = planned_load(LoadPlan.model_validate({"prompt_tokens": 1000, "output_tokens": 200, "requests_per_s": 4, "seconds": "5s"}))
    assert load is not None and load.concurrency == 20
    assert "planned" in load.why()
    assert planned_load(None) is None


def test_more_than_the_plan_expects_was_seen_and_is_sized_for():
    planned = LoadPlan.model_validate({"prompt_tokens": 1000, "output_tokens": 200, "requests_per_s": 4, "seconds": "5s"})
    seen = expected_load(planned, 31.72)
    assert seen is not None and (seen.concurrency, seen.mean_tokens) == (31.8, 1200)
    assert "31.8 requests at once, the most in five minutes of a week at the router" in seen.why()


def test_less_than_the_plan_expects_changes_nothing_and_without_lengths_nothing_can_be_sized():
    planned = LoadPlan.model_validate({"prompt_tokens": 1000, "output_tokens": 200, "requests_per_s": 4, "seconds": "5s"})
    assert expected_load(planned, 12.0) == planned_load(planned)
    assert expected_load(None, 12.0) is None


def test_what_is_free_is_counted_on_the_gpus_of_the_layout():
    gpus = (Gpu("L4", 2, 24 << 30, 6 << 30), Gpu("L4", 2, 24 << 30))
    assert free_bytes(gpus, LAYOUT) == (18 + 24) << 30
    assert free_bytes(gpus, None) == (18 + 18 + 24 + 24) << 30
