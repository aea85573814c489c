"""The lab's hub as a program, and the routes huggingface_hub needs, seen from the client's side."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from crossfade.lab.hub_content import LabRepository
from crossfade.lab.hub_server import LabHub, running

REPO = "crossfade/lab-model"
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    (made / "sub").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(WEIGHTS)
    (made / "config.json").write_bytes(b"{}")
    (made / "sub" / "notes.txt").write_bytes(b"notes")
    (made / ".hidden").write_bytes(b"not served")
    return made


@contextmanager
def program(*arguments):
    """The hub as `python -m`, and the line it prints when it is ready."""
    child = subprocess.Popen([sys.executable, "-m", "crossfade.lab.hub_server", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield child, child.stdout.readline().strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_unmodified_library_downloads_from_it_with_nothing_but_hf_endpoint(folder, tmp_path):
    code = f"from huggingface_hub import snapshot_download; print(snapshot_download({REPO!r}, local_dir={str(tmp_path / 'got')!r}))"
    with program("--port", "0", "--repo", f"{REPO}={folder}") as (hub, ready):
        assert ready.startswith("hub ready on http://127.0.0.1:")
        address = ready.rpartition(" ")[2]
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60)
        requests = httpx.get(f"{address}/_lab/requests").json()
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(timeout=10) in (0, -signal.SIGTERM)
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == WEIGHTS
    assert (tmp_path / "got" / "sub" / "notes.txt").read_bytes() == b"notes"
    assert not (tmp_path / "got" / ".hidden").exists()
    assert f"/api/models/{REPO}/revision/main" in [each["path"] for each in requests]


def test_a_fault_can_be_chosen_on_the_command_line(folder):
    wishes = ["--fault", f"{REPO}:unavailable=1", "--fault", f"{REPO}:hits=files"]
    with program("--repo", f"{REPO}={folder}", *wishes) as (_, ready):
        url = f"{ready.rpartition(' ')[2]}/{REPO}/resolve/main/config.json"
        assert [httpx.get(url).status_code for _ in range(2)] == [503, 200]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--repo", "no-folder"], "write it like ORGANISATION/NAME=FOLDER"),
        (["--repo", "a/b=/nowhere/at/all"], "the folder must exist"),
        (["--repo", "a/b=.", "--fault", "a/b:explode=1"], "faults are cut_after_bytes"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(arguments, said):
    ended = subprocess.run(
        [sys.executable, "-m", "crossfade.lab.hub_server", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1 and said in ended.stderr and "Traceback" not in ended.stderr


def test_a_port_in_use_is_told_in_one_line(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with program("--port", port, "--repo", f"{REPO}={folder}") as (hub, ready):
            assert ready == "" and hub.wait(timeout=30) == 1


def test_ranges_and_hashes_are_those_of_the_file(folder):
    hub = LabHub([LabRepository(REPO, folder)])
    with running(hub) as address, httpx.Client(base_url=f"{address}/{REPO}/resolve/main") as client:
        head = client.head("/model.safetensors")
        assert head.headers["x-linked-etag"].strip('"') == hashlib.sha256(WEIGHTS).hexdigest()
        assert head.headers["x-linked-size"] == head.headers["content-length"] == str(len(WEIGHTS))
        assert head.headers["x-repo-commit"] == hub.commit(REPO) and len(hub.commit(REPO)) == 40
        assert "x-xet-hash" not in head.headers
        assert client.head("/config.json").headers["etag"].strip('"') == hashlib.sha1(b"blob 2\0{}").hexdigest()  # noqa: S324
        for asked, expected in [("bytes=100-", WEIGHTS[100:]), ("bytes=5-9", WEIGHTS[5:10]), ("bytes=-7", WEIGHTS[-7:])]:
            part = client.get("/model.safetensors", headers={"Range": asked})
            assert (part.status_code, part.content) == (206, expected)
        beyond = client.get("/model.safetensors", headers={"Range": f"bytes={len(WEIGHTS)}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(WEIGHTS)}")
        assert client.get("/none.json").headers["x-error-code"] == "EntryNotFound"


def test_the_commit_changes_with_the_content_and_only_with_it(folder):
    first = LabHub([LabRepository(REPO, folder)]).commit(REPO)
    assert LabHub([LabRepository(REPO, folder)]).commit(REPO) == first
    (folder / "config.json").write_bytes(b"{} ")
    assert LabHub([LabRepository(REPO, folder)]).commit(REPO) != first
