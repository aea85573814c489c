"""The guard while what stands around it is down, locked, full, gone, or acts at the same time."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from guard_stand import Stand, eventually, free_port

from crossfade import processes
from crossfade.errors import CrossfadeError
from crossfade.guard.alerts import Alert
from crossfade.guard.outbox import Notice
from crossfade.guard.watch import Guard
from crossfade.home import Home

pytestmark = pytest.mark.slow


def poll_until_tripped(stand: Stand, guard: Guard, route: str) -> None:
    def once() -> None:
        stand.ask(route, 3)
        guard.watch_once()

    eventually(lambda: stand.share(route) == 0, each=once)


def breaches(journal_file: Path, route: str) -> int:
    with sqlite3.connect(f"file:{journal_file}?mode=ro", uri=True) as journal:
        [(count,)] = journal.execute("SELECT count(*) FROM entries WHERE kind = 'breach' AND subject = ?", (route,))
    return int(count)


def test_with_the_journal_locked_the_breach_waits_on_disk_and_is_written_once(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/locked")
    guard = stand.guard(home)
    stand.route("chat.locked", 10_000)
    stand.break_it(error_share=1)
    locked = sqlite3.connect(home.journal, isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    poll_until_tripped(stand, guard, "chat.locked")
    guard.clerk.work_once()
    assert breaches(home.journal, "chat.locked") == 0
    assert guard.outbox.unwritten() == 1
    assert guard.vitals.health(time.time()).notes[0] == "1 breaches wait for the journal"
    locked.execute("ROLLBACK")
    guard.clerk.work_once()
    guard.clerk.work_once()
    assert breaches(home.journal, "chat.locked") == 1
    assert guard.outbox.unwritten() == 0


_MOUNT = "mount -t tmpfs -o size=4m tmpfs {home} && cp -a {seed}/. {home} && exec {python} -m crossfade.guard"


@pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode != 0,
    reason="this user may not mount a small disk of its own (unshare -Urm mount -t tmpfs)",
)
def test_on_a_full_disk_the_breach_is_kept_in_memory_and_written_once_there_is_room(stand: Stand, home: Home, tmp_path: Path) -> None:
    """A guard on a real filesystem of 4 MiB that is full to the last byte; only the route folder lies elsewhere."""
    stand.begin(home, "chat/full")
    with sqlite3.connect(home.journal) as journal:
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else there would be room in the log for one more line
    journal.close()
    seed = tmp_path / "seed"
    subprocess.run(["cp", "-a", str(home.root), str(seed)], check=True)
    script = _MOUNT.format(home=home.root, seed=seed, python=sys.executable)
    env = {"PATH": os.environ["PATH"], "CROSSFADE_HOME": str(home.root), "CROSSFADE_GUARD_LISTEN": "off", "HOME": str(tmp_path)}
    program = processes.start("full", ["unshare", "-Urm", "sh", "-c", script], records=tmp_path, log=tmp_path / "full.log", env=env)
    disk = Path(f"/proc/{program.pid}/root{home.root}")
    try:
        eventually(lambda: (disk / "guard.json").exists() or not program.alive(), within_s=60)
        assert program.alive(), program.log_tail()
        eventually(lambda: "cannot_tell" not in program.log_tail() or "PREFECT_API_URL" in program.log_tail())
        stand.route("chat.full", 10_000)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk}/fill", "bs=1k"], capture_output=True, check=False)
        assert os.statvfs(disk).f_bavail == 0
        stand.break_it(error_share=1)
        eventually(lambda: stand.share("chat.full") == 0, within_s=60, each=lambda: stand.ask("chat.full", 3))
        for trouble in ("notice_only_in_memory", 'cannot_tell {"whom": "journal, writing"'):
            eventually(lambda trouble=trouble: trouble in (tmp_path / "full.log").read_text(), within_s=60)
        (disk / "fill").unlink()
        eventually(lambda: breaches(_copied(disk, tmp_path / "copy"), "chat.full") == 1, within_s=60)
    finally:
        processes.stop(program, deadline_s=10)


def _copied(disk: Path, to: Path) -> Path:
    """The journal's files as they are now: SQLite itself would follow /proc's link out of the guard's mounts."""
    to.mkdir(exist_ok=True)
    for file in (disk / "journal.sqlite-wal", disk / "journal.sqlite"):
        shutil.copy(file, to / file.name)
    return to / "journal.sqlite"


def test_without_prometheus_shares_are_held_and_prefect_is_alarmed_once(
    stand: Stand, home: Home, prefect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    stand.begin(home, "chat/dim", prometheus=f"http://127.0.0.1:{free_port()}")
    guard = stand.guard(home)
    stand.route("chat.dim", 10_000)
    stand.break_it(error_share=1)

    def alarms() -> list[dict[str, dict[str, str]]]:
        wanted = {"filter": {"event": {"name": ["crossfade.guard.blind"]}}}
        return list(httpx.post(f"{prefect}/events/filter", json=wanted, trust_env=False, timeout=30).json()["events"])

    def once() -> None:
        guard.watch_once()
        guard.clerk.work_once()

    eventually(alarms, within_s=60, each=once)
    for _ in range(3):
        once()
    [alarm] = alarms()
    assert alarm["resource"]["prefect.resource.id"] == "crossfade.guard.chat.dim"
    assert "cannot be reached" in alarm["payload"]["why"]
    assert stand.share("chat.dim") == 10_000
    assert not stand.router.latches()


def test_with_envoys_admin_socket_gone_the_route_file_brings_the_users_back(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/mute")
    guard = stand.guard(home)
    stand.route("chat.mute", 10_000)
    stand.break_it(error_share=1)
    socket_file = stand.home.router / "admin.sock"
    away = socket_file.with_name("away")
    socket_file.rename(away)
    try:

        def once() -> None:
            stand.ask("chat.mute", 3)
            guard.watch_once()

        eventually(lambda: "chat.mute" in stand.router.latches(), each=once)
        assert stand.router.table().route("chat.mute").share_bp == 0
        stand.break_it()
        eventually(lambda: {answer.json()["engine"] for answer in stand.ask("chat.mute", 20)} == {"source"})
    finally:
        away.rename(socket_file)
    assert stand.share("chat.mute") == 0


def test_a_broken_route_file_does_not_end_the_watch_over_what_is_in_force(stand: Stand, home: Home) -> None:
    stand.begin(home, "chat/torn")
    guard = stand.guard(home)
    stand.route("chat.torn", 10_000)
    guard.watch_once()
    (stand.home.router / "rds.json").write_text("{")
    stand.break_it(error_share=1)
    poll_until_tripped(stand, guard, "chat.torn")
    guard.watch_once()
    assert guard.vitals.health(time.time()).well


def test_two_guards_a_webhook_and_a_person_at_once_leave_one_latch_and_the_source_with_everything(stand: Stand, home: Home) -> None:
    journal = stand.begin(home, "chat/crowd")
    guards = [stand.guard(home), stand.guard(home)]
    stand.route("chat.crowd", 10_000)
    stand.break_it(error_share=1)
    stand.ask("chat.crowd", 40)
    eventually(lambda: stand.counted("chat.crowd") >= 40)
    alert = Alert(labels={"crossfade_migration": "chat/crowd", "severity": "page"}, status="firing")
    body = b"[" + alert.model_dump_json(by_alias=True).encode() + b"]"
    start = threading.Barrier(4)
    failed: list[BaseException] = []

    def at_once(deed: Callable[[], object]) -> None:
        start.wait(30)
        try:
            deed()
        except CrossfadeError as error:
            failed.append(error)

    deeds: list[Callable[[], object]] = [guards[0].watch_once, guards[1].watch_once, lambda: guards[1].ear.reception.receive(body)]
    deeds.append(lambda: stand.router.trip("chat.crowd", why="a person's word", by="person", at_s=time.time()))
    threads = [threading.Thread(target=at_once, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert stand.share("chat.crowd") == 0
    latch = stand.router.latches()["chat.crowd"]
    for guard in guards:
        guard.clerk.work_once()
    told = [Notice.model_validate_json(entry.body).reason for entry in journal.entries("chat/crowd") if entry.kind == "breach"]
    assert len(told) == len(set(told)), "a breach was written twice"
    assert latch.by == "person" or latch.why in told


def test_a_tripped_route_is_told_of_once_however_often_it_is_tripped(stand: Stand, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="crossfade.guard")
    stand.begin(home, "chat/once")
    guard = stand.guard(home)
    stand.route("chat.once", 10_000)
    notice = Notice(route="chat.once", migration="chat/once", attempt=1, rehearsal=False, at_s=1.0, reason="first")
    for at_s in (1.0, 2.0, 3.0):
        guard.tripper.bring_back(notice.model_copy(update={"at_s": at_s}))
    assert [waiting.at_s for waiting in guard.outbox.waiting()] == [1.0]
    assert [record.message.split()[0] for record in caplog.records].count("tripped") == 1
