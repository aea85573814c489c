"""Whether a PromQL gate can ever work, asked before a ramp depends on it.

A gate that finds no data holds, which is right in a ramp and useless if it is for ever. So a query is refused when it cannot give one
number however long one waits: a name Prometheus has never seen, a vector, NaN, a text that does not parse.
"""

from __future__ import annotations

from difflib import get_close_matches

from crossfade.judge.evidence import Blind, Refused
from crossfade.prometheus.asking import Asking
from crossfade.prometheus.selectors import Selector, compares, selectors

VLLM = "vllm:"
_NEAR = 3


def why_no_data(asking: Asking, gate: str, promql: str) -> Blind | Refused:
    """Tell a query that found nothing because it is wrong from one whose metrics only have no sample now. Raises NoAnswer."""
    found = selectors(promql)
    for selector in found:
        wrong = _never_seen(asking, gate, selector)
        if wrong:
            return wrong
    silent = [selector.text for selector in found if not asking.ask(f"count({selector.text})")]
    if silent:
        return Blind(gate=gate, why=f"no sample of {', '.join(silent)} now, though there were some; is its endpoint up and scraped?")
    if compares(promql):
        return Refused(
            gate=gate,
            why="its comparison drops the number that is asked for; write only what is measured, and the limit in below: or above:",
        )
    return Blind(
        gate=gate,
        why="every metric in it has samples, but together they give nothing; do both sides of each operator have the same labels?",
    )


def _never_seen(asking: Asking, gate: str, selector: Selector) -> Blind | Refused | None:
    if asking.values("__name__", match=selector.text):
        return None
    if not selector.name:
        return Refused(gate=gate, why=f"Prometheus has never seen a series that {selector.text} selects; write the metric's name before it")
    names = asking.values("__name__")
    if selector.name in names:
        return Refused(gate=gate, why=f"{selector.name} exists, but never with {_wrong_labels(asking, selector)}")
    if selector.name.startswith(VLLM) and not any(name.startswith(VLLM) for name in names):
        return Blind(gate=gate, why=f"Prometheus has scraped no vLLM yet, so nobody knows whether {selector.name} exists; it can be asked "
                     "when the target runs and is in the scrape configuration")  # fmt: skip
    near = get_close_matches(selector.name, names, n=_NEAR, cutoff=0.6)
    instead = f"write {' or '.join(near)}" if near else "look the name up in the endpoint's /metrics, and see that Prometheus scrapes it"
    return Refused(gate=gate, why=f"Prometheus has never seen a metric {selector.name}; {instead}")


def _wrong_labels(asking: Asking, selector: Selector) -> str:
    for label, value in selector.equalities():
        values = asking.values(label, match=selector.name)
        if value not in values:
            near = get_close_matches(value, values, n=_NEAR, cutoff=0.0)
            return f'{label}="{value}"; ' + (f"it has {label}={', '.join(near)}" if near else f"it has no label {label}")
    return f"all of {selector.text} at once; leave some of the labels out"
