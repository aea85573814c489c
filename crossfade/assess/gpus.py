"""GPUs as plain data, whoever counted them: the driver, Prometheus, or the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Gpu:
    """`count` GPUs that are alike. `used_bytes` is what others hold on each of them now, the source included.

    `capability` is CUDA's compute capability, like 8.9; None when nobody said.
    """

    name: str
    count: int
    total_bytes: int
    used_bytes: int = 0
    capability: float | None = None


@dataclass(frozen=True)
class Device:
    """One GPU. `index` is its number in the order given, which is CUDA's when the driver was asked."""

    index: int
    gpu: Gpu

    @property
    def free_bytes(self) -> int:
        """What nobody holds now."""
        return max(0, self.gpu.total_bytes - self.gpu.used_bytes)


def devices(gpus: Sequence[Gpu]) -> tuple[Device, ...]:
    """Every single GPU, numbered in the order given."""
    one_each = [gpu for gpu in gpus for _ in range(gpu.count)]
    return tuple(Device(index, gpu) for index, gpu in enumerate(one_each))


def teams(gpus: Sequence[Gpu], size: int) -> tuple[tuple[Device, ...], ...]:
    """The freest `size` GPUs of each kind; only GPUs of one kind work together. The freest team comes first."""
    found = [members[:size] for members in _kinds(tuple(gpus)) if len(members) >= size]
    return tuple(sorted(found, key=lambda team: -team[-1].free_bytes))


@lru_cache(maxsize=64)  # the search asks for every size of the same few sets
def _kinds(gpus: tuple[Gpu, ...]) -> tuple[tuple[Device, ...], ...]:
    """GPUs that are alike, the freest first."""
    kinds: dict[tuple[str, int, float | None], list[Device]] = {}
    for device in devices(gpus):
        kinds.setdefault((device.gpu.name, device.gpu.total_bytes, device.gpu.capability), []).append(device)
    return tuple(tuple(sorted(members, key=lambda device: (-device.free_bytes, device.index))) for members in kinds.values())
