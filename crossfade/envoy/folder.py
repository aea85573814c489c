"""The route folder, which owns the share in force: route file, generations, latches, and the lock over them.

    lock                    taken by every writer
    rds.json                the table in force; replaced whole, never edited
    generations/g*.json     the last 50 tables
    latches/NAME.json       tripped routes; a person removes them
    seen/NAME               every route there ever was
    ballast                 room on the disk that a way back may need; given up where there is none left
    bootstrap-ID.json       what one Envoy process was started with
    admin-ID.sock           its administration
    bootstrap.json          links to those of the process that serves now;
    admin.sock                  one that drains after a handover has its own still
    prometheus.json         where Prometheus finds the metrics of them all

Whatever is read, a latched route has no share: `fenced`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from crossfade.envoy.ballast import Ballast
from crossfade.envoy.boot import Boot
from crossfade.envoy.durable import draft, replace, sync_folder
from crossfade.envoy.routefile import Unreadable, parse, render
from crossfade.errors import UserError
from crossfade.rollout.routes import Latch, RouteTable

KEPT_GENERATIONS = 50
_DRAFT = ".table-"
"""Begins the names of tables that are not in their place yet."""

_POLL_S = 0.002
_ABANDONED_S = 60


class Overtaken(Exception):
    """A table was not put in its place: a trip came first, which latched a route of it or took the draft away. Read the folder again."""


@dataclass(frozen=True)
class RouteFolder:
    """Files of one router. Several processes may hold it; writers take `locked` first."""

    path: Path

    @property
    def route_file(self) -> Path:
        """What Envoy watches."""
        return self.path / "rds.json"

    @property
    def bootstrap_file(self) -> Path:
        """What the Envoy that serves now was started with."""
        return self.path / "bootstrap.json"

    @property
    def admin_socket(self) -> Path:
        """Administration of the Envoy that serves now."""
        return self.path / "admin.sock"

    @property
    def discovery_file(self) -> Path:
        """For Prometheus' `file_sd_configs`: every Envoy process of this folder."""
        return self.path / "prometheus.json"

    @property
    def log_file(self) -> Path:
        """Envoy's log: warnings, and its reasons for refusing a table."""
        return self.path / "envoy.log"

    def prepare(self) -> None:
        """Create what is missing, for this user alone; raises UserError when nothing can be written here.

        A disk too full for the ballast is no reason to stay down: `sweep` makes it when there is room.
        """
        try:
            for folder in (self.path, self._generations, self._latches):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            (self.path / "lock").touch(mode=0o600)
        except OSError as error:
            raise UserError(
                f"the route folder {self.path} cannot be written: {error.strerror}. Give this user the right, or choose another."
            ) from None
        self._ballast.keep(beside=self.route_file)

    @contextmanager
    def locked(self, *, deadline_s: float) -> Iterator[bool]:
        """Hold the folder's lock; yields False, and holds nothing, when another writer kept it past the deadline."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(
                f"the route folder {self.path} cannot be written: {error.strerror}. Was the router ever started here?"
            ) from None
        try:
            yield _lock(handle, time.monotonic() + deadline_s)
        finally:
            os.close(handle)

    def table(self) -> RouteTable:
        """The table in the route file; generation 0 without routes when none was ever written. Raises Unreadable."""
        try:
            return parse(self.route_file.read_text())
        except FileNotFoundError:
            if self._generation_files():
                raise Unreadable(f"{self.route_file} is gone") from None
            return RouteTable()
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(f"{self.route_file}: {error}") from None

    def ever_had(self, name: str) -> bool:
        """Whether a table with a route of that name was ever stored here, however long ago."""
        if (self._seen / name).exists():
            return True
        tables = (table for table in self.generations() if isinstance(table, RouteTable))  # of before names were kept
        return any(route.name == name for table in tables for route in table.routes)

    def generations(self) -> Iterator[RouteTable | Unreadable]:
        """Every kept generation, newest first, as far as it can be read."""
        for file in self._generation_files():
            try:
                yield parse(file.read_text())
            except (OSError, ValueError) as error:
                yield Unreadable(f"{file.name}: {error}")

    def newest_number(self) -> int:
        """The highest number a generation ever kept here had; 0 when there is none."""
        return max((int(file.stem[1:]) for file in self._generation_files()), default=0)

    def fenced(self, table: RouteTable) -> RouteTable:
        """The table with no latched route's requests on the target, nor copies of them."""
        latched = self.latches()
        routes = tuple(route.with_at_most(0, 0) if route.name in latched else route for route in table.routes)
        return RouteTable(generation=table.generation, routes=routes)

    def store(self, table: RouteTable, *, rises: bool = False) -> None:
        """Keep the table as a generation, then put it where Envoy looks. Whoever is killed here leaves the old or the new one whole.

        On a full disk a table that `rises` is refused, and the ballast stays for the way back; any other may have it. Raises
        Overtaken, however long this process stood still meanwhile: then a trip's table is there or about to be.
        """
        text = render(table)
        for file in (self._generation(table.generation), self.route_file):
            if rises:
                self._put(file, table, text)
            else:
                self._ballast.even_when_full(partial(self._put, file, table, text))
        self._remember(table)
        for old in self._generation_files()[KEPT_GENERATIONS:]:
            old.unlink(missing_ok=True)

    def withdraw(self, table: RouteTable, instead: RouteTable) -> None:
        """Undo `store` of a table that never came into force; nothing is to be undone when a trip did so."""
        with suppress(Overtaken):
            self._ballast.even_when_full(partial(self._put, self.route_file, instead, render(instead)))
            self._generation(table.generation).unlink(missing_ok=True)

    def discard_drafts(self) -> None:
        """Have every `store` under way raise Overtaken, or show its table to whoever reads the folder now.

        For a trip that did not get the lock, after its latch: a writer that begins later finds the latch before it renames, and
        one that has looked already has no draft left to rename.
        """
        for found in self.path.glob(f"{_DRAFT}*.tmp"):
            found.unlink(missing_ok=True)

    def mark(self) -> object:
        """Differs after any change of route file or latches; far cheaper to compare than the table is to read."""
        with suppress(FileNotFoundError):
            found = self.route_file.stat()
            return (found.st_ino, found.st_mtime_ns, *sorted(file.name for file in self._latches.iterdir()))
        return None

    def latches(self) -> Mapping[str, Latch]:
        """Tripped routes. One whose mark cannot be read is tripped all the same."""
        found = {}
        for file in sorted(self._latches.glob("*.json")):
            try:
                found[file.stem] = Latch.model_validate_json(file.read_text())
            except (OSError, ValidationError, UnicodeDecodeError) as error:
                found[file.stem] = Latch(why=f"the latch file {file} cannot be read: {type(error).__name__}", at_s=0.0, by="unknown")
        return found

    def latch(self, name: str, latch: Latch) -> None:
        """Mark a route as tripped. A mark that is there already stays: the first reason counts, also of two at the same instant."""
        file = self._latches / f"{name}.json"
        if file.exists():
            return

        def mark() -> None:
            with draft(".", file, latch.model_dump_json(), folder=self.path) as written, suppress(FileExistsError):
                os.link(written, file)  # unlike a rename it never replaces
                written.unlink()

        self._ballast.even_when_full(mark)
        sync_folder(self._latches)

    def unlatch(self, name: str) -> None:
        """Remove the mark; nothing happens when there is none."""
        (self._latches / f"{name}.json").unlink(missing_ok=True)
        sync_folder(self._latches)

    def switch(self, boot: Boot) -> None:
        """Let this process be the one that is asked and verified from now on."""
        self._link(self.admin_socket, boot.admin_socket(self.path))
        self._link(self.bootstrap_file, boot.bootstrap_file(self.path))

    def other_sockets(self) -> list[Path]:
        """Administrations of processes that are not the one serving; what is left of dead ones may be among them."""
        serving = self.admin_socket.resolve()
        return [found for found in self.path.glob("admin-*.sock") if found != serving]

    def keep_only(self, boots: Iterable[Boot]) -> None:
        """Remove the files of processes that have ended; the newest bootstrap stays, to be compared with."""
        names = {self.bootstrap_file.resolve().name}
        for boot in boots:
            names |= {boot.admin_socket(self.path).name, boot.bootstrap_file(self.path).name}
        for file in (*self.path.glob("admin-*.sock"), *self.path.glob("bootstrap-*.json")):
            if file.name not in names:
                file.unlink(missing_ok=True)

    def write(self, file: Path, text: str) -> None:
        """Replace a file whole and durably, mode 0600; raises PermanentError when the disk does not take it."""
        replace(file, text)

    def _put(self, file: Path, table: RouteTable, text: str) -> None:
        """Write a table, unless a trip was quicker; raises Overtaken."""
        with draft(_DRAFT, file, text, folder=self.path) as written:
            if self.fenced(table) != table:
                raise Overtaken
            try:
                written.replace(file)
            except FileNotFoundError:
                raise Overtaken from None

    def sweep(self) -> None:
        """Remove what killed writers left half-written, and see that the ballast is there; only under the lock."""
        self._ballast.keep(beside=self.route_file)
        for temporary in self.path.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - temporary.lstat().st_mtime > _ABANDONED_S:  # a trip may write without the lock right now
                    temporary.unlink()

    def _remember(self, table: RouteTable) -> None:
        """Keep the names of routes beyond the generations; never a reason for a change to fail."""
        with suppress(OSError):
            self._seen.mkdir(mode=0o700, exist_ok=True)
            for route in table.routes:
                (self._seen / route.name).touch(mode=0o600)

    def holds(self, table: RouteTable) -> bool:
        """Whether the route file is, to the letter, what this version of ours writes for `table`."""
        return self.route_file.exists() and self.route_file.read_text() == render(table)

    def _link(self, link: Path, to: Path) -> None:
        temporary = self.path / f".{secrets.token_hex(6)}.tmp"
        temporary.symlink_to(to.name)
        temporary.replace(link)

    @property
    def _ballast(self) -> Ballast:
        return Ballast(self.path / "ballast")

    @property
    def _generations(self) -> Path:
        return self.path / "generations"

    @property
    def _seen(self) -> Path:
        return self.path / "seen"

    @property
    def _latches(self) -> Path:
        return self.path / "latches"

    def _generation(self, number: int) -> Path:
        return self._generations / f"g{number:012d}.json"

    def _generation_files(self) -> list[Path]:
        """Newest first."""
        return sorted(self._generations.glob("g*.json"), reverse=True)


def _lock(handle: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True
