import pytest
from pydantic import TypeAdapter, ValidationError

from crossfade.plan.gates import ErrorRateGate, Gates, LatencyGate, PromqlGate, latency_name


def gates(written):
    return TypeAdapter(Gates).validate_python(written)


def test_the_name_decides_the_kind():
    read = gates({"error_rate": {"at_most": "1%"}, "ttft_p95": {"at_most": "500ms"}, "kv_cache": {"promql": "max(x)", "below": 0.9}})
    assert [type(gate) for gate in read.values()] == [ErrorRateGate, LatencyGate, PromqlGate]


def test_a_query_may_be_called_like_a_latency():
    assert isinstance(gates({"ttft_custom": {"promql": "x", "below": 1}})["ttft_custom"], PromqlGate)


@pytest.mark.parametrize(
    ("name", "meant"), [("ttft_p95", ("ttft", 0.95)), ("duration_p99.9", ("duration", 0.999)), ("ttft_p5", ("ttft", 0.05))]
)
def test_a_latency_name_says_what_and_where(name, meant):
    assert latency_name(name) == (meant[0], pytest.approx(meant[1]))


@pytest.mark.parametrize("name", ["ttft_p0", "ttft_p100", "ttft_95", "ttft_", "latency_p95", "ttft_p95x"])
def test_other_latency_names_are_refused(name):
    with pytest.raises(ValueError, match="ttft_p95"):
        latency_name(name)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"error_rate": {}}, "needs a limit"),
        ({"ttft_p95": {"before": ["step"]}}, "needs a limit"),
        ({"ttft_p100": {"at_most": "1s"}}, "not a latency gate"),
        ({"kv": {"promql": "x"}}, "exactly one limit"),
        ({"kv": {"promql": "x", "below": 1, "above": 0}}, "exactly one limit"),
        ({"kv": {"below": 1}}, "Field required"),
        ({"kv": {"promql": " ", "below": 1}}, "the query is empty; write one that gives one number"),
        ({"ttft_p101": {"at_most": "1s"}}, "no percentile 101, they lie between 0 and 100; write ttft_p95"),
        ({"error_rate": {"at_most": "1%", "before": ["lunch"]}}, "'download', 'quantize', 'deploy', 'parity', 'rehearse'"),
        ({"error_rate": {"at_most": "1%", "bellow": 1}}, "Extra inputs"),
        ({"error_rate": "1%"}, "valid dictionary"),
        (["error_rate"], "valid mapping|valid dictionary"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused(written, said):
    with pytest.raises(ValidationError, match=said):
        gates(written)


def test_vllms_own_signals_are_known_by_name():
    read = gates({"kv_cache": {}, "queue": {"below": 8}, "preemptions": {"before": ["soak"]}, "heartbeat": {}})
    assert all("vllm:" in gate.promql for gate in read.values())
    assert [gate.below for gate in read.values()] == [0.9, 8, 0.01, 1]
    assert (read["heartbeat"].breach, read["preemptions"].before) == ("roll_back", ("soak",))


def test_a_preset_gives_way_to_what_is_written():
    read = gates({"kv_cache": {"promql": "x", "below": 0.5}, "queue": {"above": 1}})
    assert (read["kv_cache"].promql, read["queue"].below, read["queue"].above) == ("x", None, 1)


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_a_limit_on_no_side_of_which_a_value_lies_is_refused(limit):
    with pytest.raises(ValidationError, match="is no limit"):
        gates({"kv": {"promql": "x", "below": limit}})


def test_what_is_tolerated_lies_between_the_source_and_the_limit():
    read = gates({"error_rate": {"no_worse_than_source": "2x"}, "ttft_p95": {"no_worse_than_source": "1.3x"}})
    assert [gate.tolerated for gate in read.values()] == [1.25, pytest.approx(1.1)]
    with pytest.raises(ValidationError, match="must lie between 1x and no_worse_than_source"):
        gates({"error_rate": {"no_worse_than_source": "2x", "tolerate": "3x"}})
