"""What vLLM says of its own engine on /metrics, as numbers. Series of several engines of one server are added; shares are the largest."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SERIES = re.compile(r"^(vllm:[a-z0-9_]+)(?:\{(.*)\})? ([0-9.eE+-]+|NaN|\+Inf)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Readings:
    """One look at the engine.

    `steps` counts its iterations: while requests run and it stands still, the engine hangs, whatever its health page says (H8).
    `kv_tokens` is how many tokens its KV cache holds at once; None where the version does not say.
    """

    steps: float
    running: float
    waiting: float
    kv_share: float
    kv_tokens: int | None
    preemptions: float
    tokens: float
    finished: float

    @property
    def busy(self) -> bool:
        """Whether it has anything to do."""
        return self.running + self.waiting > 0


def read_metrics(text: str) -> Readings:
    """The readings in a page of /metrics; a series that is missing counts as 0."""
    found: dict[str, list[float]] = {}
    blocks: list[dict[str, str]] = []
    for name, labels, value in _SERIES.findall(text):
        if name == "vllm:cache_config_info":
            blocks.append(dict(_LABEL.findall(labels)))
        else:
            found.setdefault(name, []).append(float(value))

    def added(name: str) -> float:
        return sum(found.get(f"vllm:{name}", ()))

    return Readings(
        steps=added("iteration_tokens_total_count"),
        running=added("num_requests_running"),
        waiting=added("num_requests_waiting"),
        kv_share=max(found.get("vllm:kv_cache_usage_perc", (0.0,))),
        kv_tokens=_room(blocks),
        preemptions=added("num_preemptions_total"),
        tokens=added("prompt_tokens_total") + added("generation_tokens_total"),
        finished=added("request_success_total"),
    )


def _room(engines: list[dict[str, str]]) -> int | None:
    """vLLM's own count where it says one: layers of several kinds share its blocks, and blocks times their size is then too much."""
    rooms = []
    for labels in engines:
        if (told := labels.get("kv_cache_size_tokens", "")).isdecimal():
            rooms.append(int(told))
            continue
        size, count = labels.get("block_size", ""), labels.get("num_gpu_blocks", "")
        if not (size.isdecimal() and count.isdecimal() and int(count)):
            return None
        rooms.append(int(size) * int(count))
    return sum(rooms) if rooms else None
