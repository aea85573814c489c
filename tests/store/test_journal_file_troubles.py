"""A file that cannot be read or written: one message a person can act on, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_words import note, planned

from crossfade.errors import PermanentError, Unreachable, UserError
from crossfade.store.chain import Whole
from crossfade.store.journal import SqlJournal

NOBODY = 65534

# Writes until it is refused; says the error, and how much it believes to have written.
FILL = """
import sys
from pathlib import Path
from crossfade.errors import CrossfadeError
from crossfade.ports import Entry
from crossfade.rollout.state import MigrationState
from crossfade.store.journal import SqlJournal

written = 0
{first}
try:
    journal = SqlJournal(Path(sys.argv[1]), wait_s=0.2)
    {then}
    for number in range(200):
        journal.record(Entry("chat/lab", 1, 1.0, "note", "fill", "x" * 20_000), {{"judge": str(number + 1)}})
        written += 1
except CrossfadeError as error:
    print(type(error).__name__, error)
print(written)
"""
BEGIN = 'journal.begin(MigrationState(name="chat/lab", plan_digest="d1", phase_since_s=1.0, share_since_s=1.0), "p")'
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
# Nobody may not even read the interpreter's files where root keeps them: everything is loaded before root becomes nobody.
AS_NOBODY = f"import os; SqlJournal(Path(sys.argv[2])); os.setgid({NOBODY}); os.setuid({NOBODY})"


def fill(*, first: str = "", then: str = "") -> str:
    return FILL.format(first=first, then=then)


def _python(code: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _whole_and_as_far_as(path: Path, told: str) -> None:
    """What was said to be written is there, with its memory, and nothing else."""
    journal = SqlJournal(path)
    written = int(told.splitlines()[-1])
    assert 0 < written < 200
    assert len(journal.entries("chat/lab", kind="note")) == written
    assert journal.recall("chat/lab", "judge") == str(written)
    assert isinstance(journal.check("chat/lab"), Whole)
    journal.record(note())


def test_a_home_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot make this folder.*CROSSFADE_HOME"):
        SqlJournal(tmp_path / "file" / "home" / "journal.sqlite")


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("notes of somebody, " * 100)
    with pytest.raises(PermanentError, match=r"journal\.sqlite: the journal cannot be read: file is not a database.*backup"):
        SqlJournal(path)
    assert path.read_text() == "notes of somebody, " * 100


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    SqlJournal(tmp_path / "journal.sqlite").begin(planned(), "p")
    for file in tmp_path.glob("journal.sqlite*"):
        file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(PermanentError, match="the journal cannot be read"):
        SqlJournal(tmp_path / "journal.sqlite")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(PermanentError, match=r"the journal cannot be opened.*CROSSFADE_HOME"):
        SqlJournal(tmp_path / "journal.sqlite")


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    SqlJournal(tmp_path / "journal.sqlite")
    assert (tmp_path / "journal.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_journal_locked_for_writing_says_so_and_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqlJournal(path)
    begun = journal.begin(planned(), "p")
    with sqlite3.connect(path, isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        impatient = SqlJournal(path, wait_s=0.2)
        with pytest.raises(Unreachable, match=r"journal\.sqlite: the journal is locked.*longer than 0\.2 s; nothing was changed.*fuser"):
            impatient.record(note(), {"judge": "x"})
        assert impatient.state("chat/lab") == begun
        assert len(impatient.entries("chat/lab")) == 1
        holder.execute("ROLLBACK")
    holder.close()
    journal.record(note())
    assert journal.recall("chat/lab", "judge") == ""


def test_a_file_that_may_grow_no_further_keeps_whole_entries_only(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    SqlJournal(path).begin(planned(), "p")
    told = _python(fill(then=LIMIT), path)
    assert "Unreachable" in told
    assert f"{path}: the journal could not be written or read" in told
    assert "nothing was changed" in told
    _whole_and_as_far_as(path, told)


def test_a_disk_too_full_to_make_the_journal_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    told = _python(fill(first=LIMIT.replace("1_000_000", "5_000")), path)
    assert "Unreachable" in told
    assert "Look for a full, limited or failing disk" in told
    SqlJournal(path).begin(planned(), "p")


# A file system of one megabyte in a mount namespace of its own; copied out to be looked at.
ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=1m tmpfs "$1"
"$2" -c "$3" "$1/journal.sqlite"
cp "$1"/journal.sqlite* "$4"
"""


def _can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tempfile.gettempdir()]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="this machine lets nobody mount a small disk (unshare -rm)")
def test_a_full_disk_says_so_and_keeps_whole_entries_only(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    command = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        ON_A_SMALL_DISK,
        "sh",
        tmp_path / "disk",
        sys.executable,
        fill(then=BEGIN),
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Unreachable" in done.stdout
    assert "journal.sqlite: the disk is full; nothing was written to it. Make room there" in done.stdout
    _whole_and_as_far_as(tmp_path / "out" / "journal.sqlite", done.stdout)


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A journal in a folder that everybody may enter, where pytest's own is for its owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="crossfade-journal-"))
    folder.chmod(0o755)
    SqlJournal(folder / "journal.sqlite").begin(planned(), "p")
    yield folder / "journal.sqlite"
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as somebody else")
@pytest.mark.parametrize(("mode", "said"), [(0o600, "the journal cannot be opened"), (0o644, "the journal cannot be written")])
def test_a_journal_of_somebody_else_names_the_right_that_is_missing(theirs: Path, tmp_path: Path, mode: int, said: str) -> None:
    theirs.chmod(mode)
    before = theirs.read_bytes()
    told = _python(fill(first=AS_NOBODY), theirs, tmp_path / "other.sqlite")
    assert f"PermanentError {theirs}: {said}" in told
    assert "Give this user the right" in told
    assert theirs.read_bytes() == before


def test_a_read_only_file_names_the_right_that_is_missing(theirs: Path, tmp_path: Path) -> None:
    root = os.geteuid() == 0
    if root:
        for path in (theirs.parent, theirs):
            os.chown(path, NOBODY, -1)
    theirs.chmod(0o444)
    told = _python(fill(first=AS_NOBODY if root else ""), theirs, tmp_path / "other.sqlite")
    assert "PermanentError" in told
    assert "the journal cannot be written: attempt to write a readonly database. Give this user the right" in told
