"""GPUs as the driver and DCGM tell of them."""

import importlib.util

import pytest

from crossfade.assess.gpus import Gpu
from crossfade.runtime.gpus import alike, gpus_from_dcgm, gpus_of_this_machine

MIB, GIB = 2**20, 2**30


def test_neighbours_that_are_alike_are_one_entry_and_order_is_kept():
    one, used = Gpu("L4", 1, 24 * GIB, 0, 8.9), Gpu("L4", 1, 24 * GIB, 6 * GIB, 8.9)
    assert alike([one, one, used, one]) == (Gpu("L4", 2, 24 * GIB, 0, 8.9), used, one)


def test_dcgm_counts_what_it_reserves_as_used_and_sorts_by_number():
    keys = [("10", "A"), ("2", "B")]
    found = gpus_from_dcgm(dict.fromkeys(keys, 1000.0), {("10", "A"): 23_000.0, ("2", "B"): 40_000.0}, {("10", "A"): 576.0})
    assert found == (Gpu("B", 1, 41_000 * MIB, 1000 * MIB), Gpu("A", 1, 24_576 * MIB, 1576 * MIB))
    assert gpus_from_dcgm({("0", "A"): 1.0}, {}, {}) == ()


def test_this_machine_says_what_it_has():
    found = gpus_of_this_machine()
    if not found:
        why = "nvidia-ml-py is not installed" if importlib.util.find_spec("pynvml") is None else "no NVIDIA driver is loaded"
        pytest.skip(f"{why}: the driver's own numbers are not compared")
    assert all(gpu.count >= 1 and 0 <= gpu.used_bytes <= gpu.total_bytes and gpu.capability >= 5 for gpu in found)
