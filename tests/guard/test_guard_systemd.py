"""The units are such as systemd understands, and the guard speaks its protocol."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crossfade.guard.systemd import notify
from crossfade.home import CHECKOUT

UNITS = sorted((CHECKOUT / "deployments" / "systemd").glob("*.service"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed, so the unit cannot be verified")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path, tmp_path: Path) -> None:
    """Verified with this interpreter and user in the place of those of a real host, which systemd-analyze looks for."""
    text = unit.read_text()
    assert "/opt/crossfade/.venv/bin/python" in text
    copy = tmp_path / unit.name.replace("@.", "@gpu.")  # a template is verified as one of its instances
    here = {"/opt/crossfade/.venv/bin/python": sys.executable, "=/opt/crossfade\n": f"={CHECKOUT}\n", "=crossfade\n": "=root\n"}
    for there, instead in here.items():
        text = text.replace(there, instead)
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if copy.name in line]
    assert not said, done.stderr
    assert done.returncode == 0, done.stderr


def test_states_arrive_at_the_managers_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (str(tmp_path / "notify"), f"@crossfade-test-{tmp_path.name}-{id(tmp_path)}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(10)
            manager.bind(address.replace("@", "\0", 1))
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            notify("READY=1\nWATCHDOG=1")
            assert manager.recv(100) == b"READY=1\nWATCHDOG=1"


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
