"""The real huggingface_hub against a hub that misbehaves: what arrives is whole, or the message says what to do."""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crossfade.errors import PermanentError, TemporaryError, Unreachable, WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.download import download, fetch
from crossfade.hub.repository import RepositoryFile, ResolvedRepository, resolve
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
    assert any(each.range.startswith("bytes=15000000-") for each in served.hub.requests)


@pytest.mark.slow  # five tries, 15 s in all
def test_a_half_empty_folder_is_never_taken_for_whole_when_the_hub_is_away(workshop, store):
    served = workshop.serve()
    resolved = resolve(served.repo, "main", served.access)
    workshop.stack.close()
    folder = folder_for(store, served.repo, served.commit)
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes((workshop.root / "model-0" / "config.json").read_bytes())
    with pytest.raises(Unreachable, match=r"did not deliver crossfade/tiny .* What has arrived is kept"):
        download(resolved, store, quiet, access=served.access)
    back = workshop.serve_well(workshop.root / "model-0")
    assert get(back, store).commit == served.commit


def test_a_download_that_stands_still_is_given_up(workshop, store):
    served = workshop.serve(bytes_per_s=1)  # a byte a second is looked for twice a second, so every other look finds nothing new
    with pytest.raises(Unreachable, match=r"sent nothing of crossfade/tiny for 0 s, at \d+ of 300\d+ bytes"):
        download(resolve(served.repo, "main", served.access), store, quiet, access=served.access, stalled_after_s=0.4)


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
def test_killed_half_way_the_next_try_goes_on_within_the_file_and_fetches_almost_nothing_twice(workshop, store):
    served = workshop.serve({"model.safetensors": workshop.safetensors(24_000_000)}, bytes_per_s=8_000_000)
    folder = folder_for(store, served.repo, served.commit)
    part = folder / ".parts" / "model.safetensors.part"
    child = subprocess.Popen([sys.executable, "-c", CHILD, served.address, str(store)], stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < 4_000_000:
            assert child.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (folder / "weights.json").exists()
    kept = part.stat().st_size
    seen = []
    get(served, store, on_progress=seen.append)
    assert verify(folder).commit == served.commit
    asked = [each.range for each in served.hub.requests if each.path.endswith("model.safetensors") and each.method == "GET"]
    assert asked[0] == "" and asked[1:] == [f"bytes={kept}-{(folder / 'model.safetensors').stat().st_size - 1}"]
    assert kept >= 4_000_000
    assert served.fetched().count("tokenizer.json") == 1
    assert not (folder / ".parts").exists()


def test_who_comes_second_waits_and_fetches_nothing(workshop, store):
    served = workshop.serve()
    folder, seen = folder_for(store, served.repo, served.commit), []
    folder.mkdir(parents=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as first, ThreadPoolExecutor() as pool:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = pool.submit(get, served, store, on_progress=seen.append)
        give_up_s = time.monotonic() + 20
        while not seen:
            assert time.monotonic() < give_up_s and not second.done()
            time.sleep(0.02)
        assert seen[0].waits_for == "another download of the same commit"
        assert served.fetched() == []
        fcntl.flock(first, fcntl.LOCK_UN)
        second.result(20)
    assert verify(folder).commit == served.commit
    assert seen[-1].waits_for == ""


def test_a_part_file_of_something_else_is_found_out_and_replaced(workshop, store):
    served = workshop.serve()
    part = folder_for(store, served.repo, served.commit) / ".parts" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(WeightsInvalid, match=r"model\.safetensors of crossfade/tiny arrived broken"):
        get(served, store)
    assert get(served, store).commit == served.commit


def test_a_part_file_longer_than_the_file_is_begun_anew(workshop, store):
    served = workshop.serve()
    part = folder_for(store, served.repo, served.commit) / ".parts" / "tokenizer.json.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert get(served, store).commit == served.commit


def test_a_file_the_hub_refuses_stops_the_others_and_says_why(workshop, store):
    served = workshop.serve(rate_limited=1, retry_after_s=3600, hits="files")
    resolved = resolve(served.repo, "main", served.access)
    with pytest.raises(TemporaryError, match="asks to wait 3600 s") as caught:
        download(resolved, store, quiet, access=served.access)
    assert caught.value.delay_s == 3600
    assert download(resolved, store, quiet, access=served.access).commit == served.commit


def test_progress_knows_the_speed_and_the_time_left(workshop, store):
    served = workshop.serve({"model.safetensors": workshop.safetensors(4_000_000)}, bytes_per_s=2_000_000)
    seen = []
    get(served, store, on_progress=seen.append)
    between = [each for each in seen if 0 < each.bytes_done < each.bytes_total and each.bytes_per_s]
    assert all(each.eta_s == (each.bytes_total - each.bytes_done) / each.bytes_per_s for each in between)
    assert between and seen[-1].eta_s == 0
    assert Progress(0, 10).eta_s is None


def test_a_token_given_by_hand_goes_before_the_one_of_the_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert Access.from_environment("hf_block").token == "hf_block"
    assert Access.from_environment().token == "hf_environment"
    assert "hf_block" not in repr(Access.from_environment("hf_block"))


class WithoutRanges(BaseHTTPRequestHandler):
    """A mirror that sends the whole file whatever part was asked for; the lab's hub knows ranges."""

    def do_GET(self):
        content = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Nothing is printed."""


def test_a_mirror_that_ignores_ranges_is_believed_from_the_start(workshop, store):
    content = workshop.safetensors(50_000)
    file = RepositoryFile("model.safetensors", len(content), hashlib.sha256(content).hexdigest(), "")
    resolved = ResolvedRepository("crossfade/tiny", "c" * 40, (file,))
    part = folder_for(store, resolved.repo, resolved.commit) / ".parts" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:20_000])
    with ThreadingHTTPServer(("127.0.0.1", 0), WithoutRanges) as mirror:
        mirror.content = content
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        seen = []
        manifest = download(resolved, store, seen.append, access=Access(f"http://127.0.0.1:{mirror.server_port}"))
        mirror.shutdown()
    assert manifest.files[0].sha256 == file.sha256
    assert max(each.bytes_done for each in seen) == len(content)
