"""Shapes of tensors before the weights are here."""

import json
import struct
from pathlib import Path

import pytest

from crossfade.assess.tensors import count_header
from crossfade.errors import WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.headers import fetch_headers
from crossfade.hub.repository import resolve
from crossfade.weights import WeightsManifest, hash_files, read_headers

LAB = Path(__file__).parents[2] / "deployments" / "lab-model" / "model.safetensors"


def test_the_lab_model_is_counted_exactly_for_a_few_kilobytes(workshop):
    served = workshop.serve({"model.safetensors": LAB.read_bytes()})
    headers = fetch_headers(resolve(served.repo, "main", served.access), served.access)
    assert count_header(headers).total_bytes == 3_804_672
    assert [each.range for each in served.hub.requests if each.method == "GET" and each.range] == ["bytes=0-262143"]


def test_a_long_header_is_read_in_two_parts_and_equals_the_one_on_disk(workshop):
    entries = {f"layer.{number}.weight": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(6000)}
    header = json.dumps(entries).encode()
    assert len(header) > 300_000
    served = workshop.serve({"model.safetensors": struct.pack("<Q", len(header)) + header})
    headers = fetch_headers(resolve(served.repo, "main", served.access), served.access)
    assert headers == (entries,)
    folder = workshop.root / "model-0"
    files = hash_files(folder, ["model.safetensors"])
    assert read_headers(folder, WeightsManifest(repo=served.repo, commit=served.commit, made_by="a test", files=files)) == headers


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 10**12) + b"x" * 50, struct.pack("<Q", 20) + b"not json at all....."])
def test_what_is_no_safetensors_file_is_said_before_the_download(workshop, content):
    served = workshop.serve({"model.safetensors": content})
    with pytest.raises(WeightsInvalid):
        fetch_headers(resolve(served.repo, "main", served.access), served.access)


def test_offline_asks_nobody_for_shapes(workshop):
    served = workshop.serve()
    resolved = resolve(served.repo, "main", served.access)
    asked = len(served.hub.requests)
    with pytest.raises(WeightsInvalid, match="HF_HUB_OFFLINE is set"):
        fetch_headers(resolved, Access(served.address, offline=True))
    assert len(served.hub.requests) == asked
