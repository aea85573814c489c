"""Have the target started on the gpu pool, and believe it only when it answered here."""

from __future__ import annotations

import platform
import re
from datetime import timedelta

from pydantic import BaseModel

from crossfade.assess.layout import filled_in
from crossfade.errors import EngineDied, EngineWarming, GateFailed, TemporaryError
from crossfade.plan.gates import PromqlGate
from crossfade.plan.show import show_plan
from crossfade.rollout.names import rehearsal_model
from crossfade.rollout.phases import Phase
from crossfade.rollout.state import MigrationState
from crossfade.vllm.client import GATE_METRICS
from crossfade.wiring import Bench
from tasks.artifacts import table
from tasks.assess import Assessed
from tasks.gpu import hand_over
from tasks.quantize import Quantized
from tasks.stage import Report, stage


class Serving(BaseModel):
    """The endpoint as it answered."""

    address: str
    names: tuple[str, ...]
    answer: str
    seconds: float


@stage("serve", milestone=Phase.SERVING, gates="deploy", retries=2, timeout=timedelta(hours=2))
def serve(bench: Bench, state: MigrationState) -> Report:
    """Start vLLM through the gpu pool, and ask it a real question under the hidden name."""
    weights = bench.desk.outcome(state, "quantize", Quantized).folder
    layout = bench.desk.outcome(state, "assess", Assessed).layout
    wanted = show_plan(filled_in(bench.plan, layout))
    parameters = {"plan": wanted, "migration": bench.migration, "weights": weights, "host": platform.node()}
    how = hand_over(state, "serve", parameters, EngineDied)
    try:
        names = bench.target.models()
    except TemporaryError:  # that run ended long ago (we were resumed), and what it started is gone
        how = hand_over(state, "serve", parameters, EngineDied, again=str(bench.desk.clock.now_s()))
        names = bench.target.models()
    hidden = rehearsal_model(bench.migration)
    if hidden not in names:
        raise GateFailed(f"what listens on {bench.plan.target.address} serves {', '.join(names)}, not our target. Is the port taken?")
    bench.target.check_metric_names((*GATE_METRICS, *_named_by_gates(bench)))
    answer = bench.target.complete(hidden, "What is 4+6?", max_tokens=16)
    if not answer.text:
        raise EngineWarming("the target gave an empty answer to its first question", delay_s=5)
    served = Serving(address=bench.plan.target.address, names=names, answer=answer.text, seconds=answer.seconds)
    rows = [
        ("address", served.address),
        ("names", ", ".join(names)),
        ("first answer", repr(answer.text)),
        ("in", f"{answer.seconds:.2f} s"),
        ("KV cache", f"{room:,} tokens" if (room := bench.target.readings().kv_tokens) else "vLLM does not say"),
    ]
    summary = f"vLLM answers at {served.address} under {len(names)} names; {how}"
    return Report(summary, f"# Target\n\n{table(('what', 'value'), rows)}\n", served)


def _named_by_gates(bench: Bench) -> set[str]:
    """vLLM's series that the plan's own gates read. One that this version does not have would hold the ramp for ever (H11)."""
    queries = [gate.promql for gate in bench.plan.gates.values() if isinstance(gate, PromqlGate)]
    return {name for query in queries for name in re.findall(r"vllm:[a-z0-9_]+", query)}
