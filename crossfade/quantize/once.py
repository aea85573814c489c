"""One maker of a result at a time, over all processes and machines that share the store."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crossfade.errors import PermanentError


@contextmanager
def only_maker(final: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of `final`, which need not exist; gives its descriptor, for the tool to hold it too.

    The kernel lets go when the last holder has ended, however it ended; on NFS the server does. Raises PermanentError where the
    store's filesystem has no locks: two workers would then make, and remove, the same folder.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with final.with_name(f".{final.name}.lock").open("w") as lock:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another run is making {final.name}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise PermanentError(
                f"{final.parent} is on a filesystem without file locks ({error.strerror}), so that two workers could make the same "
                "weights at once. Mount it with locks (NFS 4, or without nolock), or point store: elsewhere."
            ) from None
        yield lock.fileno()
