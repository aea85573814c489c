"""What is known, and refused, before the first byte of weights."""

import hashlib
import shutil
import socket

import pytest

from crossfade.errors import NotEnoughRoom, TemporaryError, Unreachable, WeightsInvalid
from crossfade.hub.access import Access
from crossfade.hub.download import fetch
from crossfade.hub.headers import fetch_headers
from crossfade.hub.repository import RepositoryFile, ResolvedRepository, read_config, resolve
from crossfade.hub.room import check_room

SECRET = "hf_thisMustNeverBeSeen"


def test_a_branch_is_resolved_to_the_commit_with_sizes_and_hashes(workshop):
    served = workshop.serve()
    resolved = resolve(served.repo, "main", served.access)
    assert resolved.commit == served.commit
    assert [file.path for file in resolved.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    files = {file.path: file for file in resolved.files}
    content = (workshop.root / "model-0" / "model.safetensors").read_bytes()
    assert files["model.safetensors"].sha256 == hashlib.sha256(content).hexdigest()
    assert files["model.safetensors"].bytes == len(content)
    assert len(files["config.json"].git_sha1) == 40
    assert resolve(served.repo, served.commit, served.access) == resolved


def test_the_environment_is_read_when_asked_not_when_imported(workshop, monkeypatch):
    served = workshop.serve()
    monkeypatch.setenv("HF_ENDPOINT", served.address + "/")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert resolve(served.repo, "main").commit == served.commit
    assert Access.from_environment().token == SECRET


def test_an_unknown_revision_is_named(workshop):
    served = workshop.serve()
    with pytest.raises(WeightsInvalid, match=r"crossfade/tiny has no revision 'v9' .* Check revision: in the plan"):
        resolve(served.repo, "v9", served.access)


def test_an_unknown_repository_says_that_it_may_be_private(workshop):
    served = workshop.serve()
    with pytest.raises(WeightsInvalid, match=r"knows no model repository crossfade/tyni, or it is private and no HF_TOKEN is set"):
        resolve("crossfade/tyni", "main", served.access)
    with pytest.raises(WeightsInvalid, match=r"crossfade/tyni, or the token given may not see it") as caught:
        resolve("crossfade/tyni", "main", Access(served.address, SECRET))
    assert SECRET not in str(caught.value)


def test_a_name_that_is_no_repository_name_is_refused(workshop):
    with pytest.raises(WeightsInvalid, match="is not a repository name"):
        resolve("a//b c", "main", workshop.serve().access)


def test_a_gated_repository_names_the_page_where_the_licence_is_accepted(workshop):
    served = workshop.serve(gated=True, licence_token=SECRET)
    with pytest.raises(WeightsInvalid, match=rf"is gated. Accept the licence at {served.address}/crossfade/tiny, then set HF_TOKEN"):
        resolve(served.repo, "main", served.access)
    with pytest.raises(WeightsInvalid, match="The account of your token has not been let in"):
        resolve(served.repo, "main", Access(served.address, "hf_other"))
    assert resolve(served.repo, "main", Access(served.address, SECRET)).commit == served.commit


def test_a_token_that_is_no_longer_good_is_told_so(workshop):
    served = workshop.serve(unauthorized=True)
    with pytest.raises(WeightsInvalid, match=r"refuses the token in HF_TOKEN for crossfade/tiny \(401\)") as caught:
        resolve(served.repo, "main", Access(served.address, SECRET))
    assert SECRET not in str(caught.value) + repr(Access(served.address, SECRET))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.safetensors": None, "model-Q4_K_M.gguf": b"GGUF"}, r"holds only GGUF files.* 'base model'"),
        ({"model.safetensors": None, "pytorch_model.bin": b"\x80"}, "holds its weights only as pickles, which can run code"),
        ({"model.safetensors": None}, r"holds no \*\.safetensors"),
        ({"config.json": None}, r"no config\.json.* adapter"),
    ],
    ids=["gguf only", "pickles only", "nothing", "adapter only"],
)
def test_a_repository_that_cannot_be_served_says_what_it_holds_instead(workshop, files, said):
    served = workshop.serve(files)
    with pytest.raises(WeightsInvalid, match=said):
        resolve(served.repo, "main", served.access)
    assert served.fetched() == []


def test_other_formats_and_a_second_layout_of_the_same_weights_are_left_out(workshop):
    names = ("pytorch_model.bin", "model.gguf", "tokenization_tiny.py", "tokenizer.pkl", "original/model.safetensors")
    doubles = ("consolidated-00001-of-00002.safetensors", "consolidated.safetensors.index.json")
    extra = dict.fromkeys(names + doubles, b"{}")
    served = workshop.serve(extra | {"chat_template.jinja": b"x", "vocab.json": b"{}", "merges.txt": b""})
    wanted = {file.path for file in resolve(served.repo, "main", served.access).files}
    assert wanted == {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "vocab.json", "merges.txt"}


def test_a_rate_limit_says_how_long_to_wait(workshop):
    served = workshop.serve(rate_limited=1, retry_after_s=7)
    with pytest.raises(TemporaryError, match="asks to wait 7 s") as caught:
        resolve(served.repo, "main", served.access)
    assert caught.value.delay_s == 7
    assert resolve(served.repo, "main", served.access).commit == served.commit


def test_a_hub_in_trouble_is_unreachable_and_then_answers(workshop):
    served = workshop.serve(unavailable=1)
    with pytest.raises(Unreachable, match="answered 503"):
        resolve(served.repo, "main", served.access)
    assert resolve(served.repo, "main", served.access).commit == served.commit


def test_a_hub_that_is_not_there_is_unreachable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        address = f"http://user:{SECRET}@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match="did not deliver crossfade/tiny") as caught:
            resolve("crossfade/tiny", "main", Access(address))
    assert SECRET not in str(caught.value)


def test_offline_a_commit_in_the_store_is_described_by_what_lies_there(workshop, store):
    served = workshop.serve()
    online = resolve(served.repo, "main", served.access)
    fetch(served.repo, "main", store, lambda _: None, access=served.access)
    config, headers = read_config(online, served.access), fetch_headers(online, served.access)
    asked, offline = len(served.hub.requests), Access(served.address, offline=True)
    found = resolve(served.repo, served.commit, offline, store=store)
    assert {(file.path, file.bytes) for file in found.files} == {(file.path, file.bytes) for file in online.files}
    assert read_config(found, offline) == config
    assert fetch_headers(found, offline) == headers
    assert len(served.hub.requests) == asked
    with pytest.raises(WeightsInvalid, match="name its commit as revision"):
        resolve(served.repo, "main", offline, store=store)


def test_offline_asks_nobody(workshop):
    served = workshop.serve()
    with pytest.raises(WeightsInvalid, match="HF_HUB_OFFLINE is set"):
        resolve(served.repo, "main", Access(served.address, offline=True))
    assert served.hub.requests == []


def test_the_configuration_can_be_read_before_the_weights_are_here(workshop):
    served = workshop.serve()
    assert read_config(resolve(served.repo, "main", served.access), served.access) == {"architectures": ["TinyForCausalLM"]}
    assert served.fetched() == ["config.json"]


@pytest.mark.parametrize(("faults", "said"), [({"corrupt": "config.json"}, "arrived broken"), ({}, "published broken")])
def test_a_broken_configuration_is_refused(workshop, faults, said):
    served = workshop.serve({"config.json": b"[1]"}, **faults)
    with pytest.raises(WeightsInvalid, match=said):
        read_config(resolve(served.repo, "main", served.access), served.access)


def test_a_disk_too_small_says_how_much_is_missing(tmp_path):
    huge = ResolvedRepository("big/model", "0" * 40, (RepositoryFile("model.safetensors", 10**18, "0" * 64, ""),))
    with pytest.raises(NotEnoughRoom, match=r"big/model needs 2000000000\.0 GB .* for each of 2 copies.* store: at a larger disk"):
        check_room(huge, tmp_path / "not" / "yet" / "there", copies=2)
    small = ResolvedRepository("small/model", "0" * 40, (RepositoryFile("model.safetensors", 1000, "0" * 64, ""),))
    check_room(small, tmp_path / "not" / "yet" / "there", copies=2)


def test_what_an_interrupted_download_left_is_not_needed_again(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    there = tmp_path / "big--model" / ("0" * 40) / "model.safetensors"
    there.parent.mkdir(parents=True)
    with there.open("wb") as sparse:
        sparse.truncate(10**9)
    resolved = ResolvedRepository("big/model", "0" * 40, (RepositoryFile("model.safetensors", free + 5 * 10**8, "0" * 64, ""),))
    check_room(resolved, tmp_path, copies=1)


def test_what_arrived_of_a_file_that_is_not_whole_yet_is_not_needed_again(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    part = tmp_path / "big--model" / ("0" * 40) / ".parts" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as sparse:
        sparse.truncate(10**9)
    resolved = ResolvedRepository("big/model", "0" * 40, (RepositoryFile("model.safetensors", free + 5 * 10**8, "0" * 64, ""),))
    check_room(resolved, tmp_path, copies=1)
