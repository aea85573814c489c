"""The GPUs of this machine, asked from NVIDIA's driver through `nvidia-ml-py`; and from Prometheus where DCGM's exporter is scraped.

The package is optional: without it, or without a driver, there are no GPUs to report, and the plan may name them instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from types import ModuleType

from crossfade.assess.gpus import Gpu
from crossfade.errors import PermanentError

DCGM_USED = "DCGM_FI_DEV_FB_USED"
DCGM_FREE = "DCGM_FI_DEV_FB_FREE"
DCGM_RESERVED = "DCGM_FI_DEV_FB_RESERVED"
"""Gauges in MiB, one series a GPU, with the labels `gpu` (its number), `modelName` and `Hostname`. Capability is not among them."""

MIB = 2**20


class NvmlFailed(PermanentError):
    """The driver is there and does not answer."""


def gpus_of_this_machine() -> tuple[Gpu, ...]:
    """Every GPU the driver shows, in its order; empty without `nvidia-ml-py` or without a driver.

    `used_bytes` counts all processes and what the driver reserves. Neighbours that are alike are one entry. Raises NvmlFailed.
    """
    try:
        import pynvml  # optional: the extra `gpu`
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded, pynvml.NVMLError_NoPermission):
        return ()
    except pynvml.NVMLError as error:
        raise NvmlFailed(
            f"NVIDIA's driver does not answer ({error}). Run nvidia-smi, or name the GPUs in target.gpus of the plan."
        ) from None
    try:
        return alike(_one(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        raise NvmlFailed(
            f"NVIDIA's driver gave up half-way ({error}). Run nvidia-smi, or name the GPUs in target.gpus of the plan."
        ) from None
    finally:
        pynvml.nvmlShutdown()


def gpus_from_dcgm(
    used_mib: Mapping[tuple[str, str], float], free_mib: Mapping[tuple[str, str], float], reserved_mib: Mapping[tuple[str, str], float]
) -> tuple[Gpu, ...]:
    """GPUs from the three gauges, each keyed by (`gpu`, `modelName`); one that lacks `free` is left out.

    Ask Prometheus for one host at a time: numbers begin at 0 on each. What DCGM reserves counts as used.
    """
    found = []
    for key in sorted(free_mib, key=lambda pair: (int(pair[0]) if pair[0].isdigit() else 0, pair[0])):
        used = used_mib.get(key, 0.0) + reserved_mib.get(key, 0.0)
        found.append(Gpu(name=key[1], count=1, total_bytes=round((used + free_mib[key]) * MIB), used_bytes=round(used * MIB)))
    return alike(found)


def alike(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Neighbours that are equal as one entry, the order kept."""
    return tuple(
        Gpu(gpu.name, sum(each.count for each in group), gpu.total_bytes, gpu.used_bytes, gpu.capability)
        for gpu, group in ((key, list(same)) for key, same in groupby(gpus))
    )


def _one(pynvml: ModuleType, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    name = pynvml.nvmlDeviceGetName(handle)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name),
        count=1,
        total_bytes=int(memory.total),
        used_bytes=int(memory.total - memory.free),
        capability=major + minor / 10,
    )
