"""The real huggingface_hub against a hub that misbehaves: what arrives is whole, or the message says what to do."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from crossfade.errors import PermanentError, TemporaryError, Unreachable, WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.download import download, fetch
from crossfade.hub.repository import resolve
from crossfade.hub.transfer import Progress
from crossfade.weights import folder_for, load_manifest, verify


def quiet(_):
    """Progress nobody watches."""


def get(served, store, revision="main", on_progress=quiet):
    return fetch(served.repo, revision, store, on_progress, copies=2, access=served.access)


def test_what_arrives_is_what_the_hub_has_with_a_manifest_that_says_so(workshop, store):
    served = workshop.serve()
    seen = []
    manifest = get(served, store, on_progress=seen.append)
    folder = folder_for(store, served.repo, served.commit)
    assert folder == store / "crossfade--tiny" / served.commit
    assert verify(folder) == load_manifest(folder) == manifest
    assert (manifest.repo, manifest.commit, manifest.scheme, manifest.base) == (served.repo, served.commit, "none", None)
    for file in manifest.files:
        assert (folder / file.path).read_bytes() == (workshop.root / "model-0" / file.path).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json", "weights.json"]
    assert seen[-1] == Progress(manifest.total_bytes, manifest.total_bytes)
    assert [each.bytes_done for each in seen] == sorted(each.bytes_done for each in seen)


def test_a_store_that_cannot_be_written_is_named(workshop, tmp_path):
    served = workshop.serve()
    (tmp_path / "a-file").write_text("")
    with pytest.raises(PermanentError, match=r"Cannot write .*a-file.*: Not a directory. Make the store: folder writable"):
        get(served, tmp_path / "a-file" / "weights")


def test_a_pickle_beside_good_weights_is_never_asked_for(workshop, store):
    served = workshop.serve({"pytorch_model.bin": b"\x80", "model.gguf": b"GGUF", "modeling_tiny.py": b"import os"})
    get(served, store)
    assert sorted(served.fetched()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_the_second_time_only_the_revision_is_asked_and_a_commit_not_even_that(workshop, store):
    served = workshop.serve()
    first = get(served, store)
    asked = len(served.hub.requests)
    assert get(served, store) == first
    assert [each.path for each in served.hub.requests[asked:]] == ["/api/models/crossfade/tiny/revision/main"]
    assert get(served, store, revision=served.commit) == first
    assert fetch(served.repo, served.commit, store, quiet, access=Access(served.address, offline=True)) == first
    assert len(served.hub.requests) == asked + 1


def test_a_cut_connection_is_mended_without_a_word(workshop, store):
    served = workshop.serve(cut_after_bytes=100_000)
    get(served, store)
    assert served.fetched().count("model.safetensors") == 2


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_flipped_byte_is_found_named_and_fetched_anew_the_next_time(workshop, store, name):
    served = workshop.serve(corrupt=name)
    with pytest.raises(WeightsInvalid, match=rf"{name} of crossfade/tiny arrived broken: .* has been removed; run the stage again"):
        get(served, store)
    folder = folder_for(store, served.repo, served.commit)
    assert not (folder / name).exists()
    with pytest.raises(WeightsInvalid, match=r"has no weights\.json"):
        verify(folder)
    get(served, store)
    assert sorted(served.fetched()) == sorted(["config.json", "model.safetensors", "tokenizer.json", name])


@pytest.mark.parametrize(("fault", "status"), [("rate_limited", 429), ("unavailable", 503)])
def test_a_hub_that_refuses_for_a_moment_is_waited_out(workshop, store, fault, status):
    served = workshop.serve(**{fault: 1}, retry_after_s=0, hits="files")
    get(served, store)
    assert [each.status for each in served.hub.requests].count(status) == 1


def test_a_large_file_goes_on_from_where_the_connection_was_cut(workshop, store):
    served = workshop.serve({"model.safetensors": workshop.safetensors(24_000_000)}, cut_after_bytes=15_000_000)
    get(served, store)
    assert "bytes=10485760-" in [each.range for each in served.hub.requests]


@pytest.mark.slow  # the library itself tries for 23 s before it gives up
def test_a_half_empty_folder_is_never_taken_for_whole_when_the_hub_is_away(workshop, store):
    served = workshop.serve()
    resolved = resolve(served.repo, "main", served.access)
    workshop.stack.close()
    folder = folder_for(store, served.repo, served.commit)
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes((workshop.root / "model-0" / "config.json").read_bytes())
    with pytest.raises(Unreachable, match=r"did not deliver model\.safetensors of crossfade/tiny.* complete files are kept"):
        download(resolved, store, quiet, access=served.access)
    back = workshop.serve_well(workshop.root / "model-0")
    assert get(back, store).commit == served.commit


def test_a_download_that_stands_still_is_given_up(workshop, store):
    served = workshop.serve(bytes_per_s=2000)
    with pytest.raises(Unreachable, match=r"sent nothing of crossfade/tiny for 1 s, at \d+ of 300\d+ bytes"):
        download(resolve(served.repo, "main", served.access), store, quiet, access=served.access, stalled_after_s=1)


def test_weights_published_broken_are_refused_though_their_hash_is_right(workshop, store):
    served = workshop.serve({"model.safetensors": workshop.safetensors(5000)[:-1]})
    with pytest.raises(WeightsInvalid, match=r"not a complete safetensors file: its tensors end at byte \d+, the file at \d+"):
        get(served, store)


def test_a_shard_that_the_index_names_and_nobody_has_is_refused(workshop, store):
    index = {"metadata": {}, "weight_map": {"weight": "model.safetensors", "other": "model-00002-of-00002.safetensors"}}
    served = workshop.serve({"model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(WeightsInvalid, match=r"names model-00002-of-00002\.safetensors, which crossfade/tiny does not hold"):
        get(served, store)


def test_broken_weights_in_the_store_are_mended_by_fetching_only_what_is_broken(workshop, store):
    served = workshop.serve()
    first = get(served, store)
    folder = folder_for(store, served.repo, served.commit)
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(WeightsInvalid, match=r"config\.json is not the file that was checked in"):
        fetch(served.repo, served.commit, store, quiet, access=Access(served.address, offline=True))
    asked = len(served.fetched())
    assert get(served, store) == first
    assert "model.safetensors" not in served.fetched()[asked:]


def test_a_pickle_put_into_the_store_is_refused(workshop, store):
    served = workshop.serve()
    get(served, store)
    folder = folder_for(store, served.repo, served.commit)
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    for look in (lambda: verify(folder), lambda: get(served, store)):
        with pytest.raises(WeightsInvalid, match=r"pytorch_model\.bin does not belong to these weights"):
            look()


CHILD = """
import sys
from pathlib import Path
from crossfade.hub.access import Access
from crossfade.hub.download import fetch
fetch("crossfade/tiny", "main", Path(sys.argv[2]), print, access=Access(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_half_way_the_next_try_keeps_what_is_complete_and_leaves_no_part_files(workshop, store):
    served = workshop.serve({"model.safetensors": workshop.safetensors(24_000_000)}, bytes_per_s=8_000_000)
    folder = folder_for(store, served.repo, served.commit)
    parts = folder / ".cache" / "huggingface" / "download"
    child = subprocess.Popen([sys.executable, "-c", CHILD, served.address, str(store)], stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 60
        while not any(part.stat().st_size > 1_000_000 for part in parts.glob("*.incomplete")):
            assert child.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.05)
        with pytest.raises(TemporaryError, match="Another process is downloading"):
            get(served, store)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (folder / "weights.json").exists()
    assert list(parts.glob("*.incomplete"))
    get(served, store)
    assert verify(folder).commit == served.commit
    assert sorted(served.fetched()) == ["config.json", "model.safetensors", "model.safetensors", "tokenizer.json"]
    assert not (folder / ".cache").exists()
