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
        ({"error_rate": {"at_most": "1%", "before": ["lunch"]}}, "'download', 'quantize', 'deploy', 'parity', 'rehearse'"),
        ({"error_rate": {"at_most": "1%", "bellow": 1}}, "Extra inputs"),
        ({"error_rate": "1%"}, "valid dictionary"),
        (["error_rate"], "valid mapping|valid dictionary"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused(written, said):
    with pytest.raises(ValidationError, match=said):
        gates(written)
