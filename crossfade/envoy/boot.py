"""One Envoy process of a stack, told apart from the one before it and the one after.

Each has an id, a metrics port and an administration socket of its own, so that during a handover both can be asked and
scraped, and so that the counters of one are never taken for a reset of the other's. All of it is in its bootstrap.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from crossfade.envoy.stack import Json, Stack
from crossfade.errors import PermanentError

_NAMELESS_S = 2.0
"""Between the moment a starter is told that its child runs and the one in which the kernel shows the child's arguments."""


@dataclass(frozen=True)
class Boot:
    """Identity of one Envoy process. `id` is the label `instance` of all its series; `asked` are the stack's own listeners."""

    id: str
    metrics_listen: str
    asked: tuple[str, str, str]

    @classmethod
    def of(cls, stack: Stack, metrics_listen: str) -> Self:
        """A new one."""
        return cls(secrets.token_hex(6), metrics_listen, _asked(stack))

    @classmethod
    def read(cls, bootstrap: str) -> Self:
        """Whose bootstrap this is; raises PermanentError when it is none of ours."""
        try:
            found = json.loads(bootstrap)["node"]["metadata"]
            listen, metrics, after = found["asked"]
            return cls(str(found["boot"]), str(found["metrics_listen"]), (str(listen), str(metrics), str(after)))
        except (KeyError, TypeError, ValueError) as error:
            raise PermanentError(
                f"this is no bootstrap of crossfade ({type(error).__name__}); stop the router and start it again"
            ) from None

    @classmethod
    def of_process(cls, pid: int) -> Self:
        """Whose process this is, by the file it was started with; raises PermanentError when that says nothing."""
        try:
            command = _command(psutil.Process(pid))
            return cls.read(Path(command[command.index("-c") + 1]).read_text())
        except (psutil.Error, ValueError, IndexError, OSError) as error:
            raise PermanentError(f"cannot tell which router process {pid} is ({error}); stop it and start it again") from None

    def belongs_to(self, stack: Stack) -> bool:
        """Whether it was started for these listeners."""
        return self.asked == _asked(stack)

    @property
    def listen(self) -> str:
        """The address clients use."""
        return self.asked[0]

    def admin_socket(self, folder: Path) -> Path:
        """Its administration, mode 0600; nothing else serves it."""
        return folder / f"admin-{self.id}.sock"

    def bootstrap_file(self, folder: Path) -> Path:
        """What it was started with."""
        return folder / f"bootstrap-{self.id}.json"

    def node(self) -> Json:
        """Envoy's `node`; without one it reads no route file."""
        return {
            "id": f"crossfade-router-{self.id}",
            "cluster": "crossfade",
            "metadata": {"boot": self.id, "metrics_listen": self.metrics_listen, "asked": list(self.asked)},
        }


def _command(process: psutil.Process) -> list[str]:
    """Its command line; a process that has only just been started has none for a moment."""
    deadline = time.monotonic() + _NAMELESS_S
    while not (command := process.cmdline()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return command


def _asked(stack: Stack) -> tuple[str, str, str]:
    return (stack.listen, stack.metrics_listen, stack.metrics_listen_after_handover)
