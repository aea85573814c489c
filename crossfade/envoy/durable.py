"""Files that are whole or not there, whatever is killed and however full the disk: written under another name, synced, then renamed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossfade.errors import PermanentError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskFull(PermanentError):
    """A file could not be written for want of room; the one there before is untouched."""


@contextmanager
def draft(prefix: str, file: Path, text: str, *, folder: Path) -> Iterator[Path]:
    """The text on disk in `folder`, mode 0600, to be renamed to `file`; gone when the caller fails. Raises PermanentError, or DiskFull."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=folder)
        try:
            with os.fdopen(handle, "w") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            yield Path(temporary)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
    except OSError as error:
        kind = DiskFull if error.errno in _NO_ROOM else PermanentError
        raise kind(f"cannot write {file}: {error.strerror}; the file there before is untouched") from None


def replace(file: Path, text: str) -> None:
    """Put the text in the file's place, or leave what is there; raises as `draft` does."""
    with draft(".", file, text, folder=file.parent) as written:
        written.replace(file)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
