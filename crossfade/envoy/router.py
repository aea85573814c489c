"""The one gate to the route table, over a route folder and the Envoy that watches it. Implements `ports.Router`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from crossfade.envoy.admin import Admin
from crossfade.envoy.binary import validate
from crossfade.envoy.drain import Drained, wait_until_idle
from crossfade.envoy.folder import Overtaken, RouteFolder
from crossfade.envoy.recovery import settle, shares
from crossfade.envoy.routefile import Unreadable, version
from crossfade.errors import NotInForce, PermanentError, RouteRejected, StaleWriter, Tripped, Unreachable, UserError
from crossfade.failpoints import reach
from crossfade.ports import Applied, Clock
from crossfade.rollout.routes import Latch, ModelRoute, RouteTable

_POLL_S = 0.002
_FIRST_LOOK_S = 0.004
"""Envoy takes about this long to read a table of ten models; on few cores, asking earlier makes it take longer."""

_IN_FORCE_S = 5.0
_LOCK_S = 15.0
_TRIP_LOCK_S = 0.5
_TRIP_IN_FORCE_S = 1.0


class EnvoyRouter:
    """Router over one route folder. Holds no state of its own: any number of processes may each have one."""

    def __init__(self, folder: Path) -> None:
        self._folder = RouteFolder(folder)
        self._admin = Admin(self._folder.admin_socket)

    def table(self) -> RouteTable:
        """The table in the route folder; raises PermanentError when the route file is broken."""
        try:
            return self._folder.table()
        except Unreadable as error:
            raise PermanentError(f"{error}. Starting the router again restores the newest good generation.") from None

    def observed(self) -> RouteTable:
        """The table in Envoy's own dump; raises Unreachable."""
        return self._admin.routes()

    def latches(self) -> Mapping[str, Latch]:
        """Latched route names and why."""
        return self._folder.latches()

    def refuse_elsewhere(self, name: str) -> None:
        """Raise UserError where no table ever had the route: that it is missing is then no sign that it was taken away."""
        if not self._folder.ever_had(name):
            raise UserError(
                f"no router ever had a route {name} in {self._folder.path}: this is not the router's host, or not its home. Nothing "
                "was changed. Run this on the router's host, or set CROSSFADE_HOME to the home that its router has."
            )

    def active_requests(self, engine: str) -> int:
        """Requests and streams the engine called `source`, `target` or `target-NAME` is answering right now.

        Those of a process that drains after a handover are among them, mirrored ones are not. Raises Unreachable, UserError for
        an engine the router does not have.
        """
        active = self._admin.active_requests(engine)
        for draining in self._draining():
            with suppress(Unreachable, UserError):  # it ended meanwhile, or never knew that engine
                active += draining.active_requests(engine)
        return active

    def drain(self, engine: str, deadline_s: float, clock: Clock) -> Drained:
        """Wait until an engine has no active request, before it is stopped; at the deadline, say how many still ran.

        Moves nothing: an engine that has a share left may never be idle. Raises as `active_requests`.
        """
        return wait_until_idle(lambda: self.active_requests(engine), deadline_s=deadline_s, clock=clock)

    def apply(self, change: ModelRoute, expect: int) -> Applied:
        """Put one route in force and verify it in Envoy's dump.

        Raises StaleWriter, Tripped, UserError when two routes would match one model name, RouteRejected with Envoy's reason,
        and Unreachable when Envoy does not answer. Only after success has a share risen.
        """
        return self._change(lambda table: table.with_route(change), expect, change)

    def remove(self, name: str, expect: int) -> Applied:
        """Take one route away; its models go to the source. A latch stays. Raises as `apply`, UserError for an unknown route."""

        def without(table: RouteTable) -> RouteTable:
            _known(table, name, self._folder.path)
            return table.without_route(name)

        return self._change(without, expect, None)

    def trip(self, name: str, *, why: str, by: str, at_s: float) -> Applied:
        """Latch the route, then put all its requests on the source.

        Works with Envoy dead or deaf: the file is the truth, and Envoy reads it when it can; then nothing is verified. The
        latch comes first and needs no lock: whoever holds the lock finds it, and cannot put a share above it. Raises UserError
        for an unknown route, NotInForce when a running Envoy answers but does not route by the table in time.
        """
        began = time.monotonic()
        with suppress(Unreadable):
            _known(self._folder.table(), name, self._folder.path)
        self._folder.latch(name, Latch(why=why, at_s=at_s, by=by))
        reach("after-latch")
        with self._folder.locked(deadline_s=_TRIP_LOCK_S) as mine:
            if not mine:  # a writer stuck in it must not hold up a rollback, nor undo it when it goes on
                self._folder.discard_drafts()
            table = settle(self._folder).table
            reach("after-share-0")
            with suppress(Unreachable):
                table = self._await(Admin(self._folder.admin_socket, timeout_s=0.5), within_s=_TRIP_IN_FORCE_S, refused=None)
        return Applied(table, time.monotonic() - began)

    def resume(self, name: str) -> None:
        """Clear the latch; only ever on a person's word. Nothing happens when there is none."""
        with self._writing():
            self._folder.unlatch(name)

    def _change(self, edit: Callable[[RouteTable], RouteTable], expect: int, change: ModelRoute | None) -> Applied:
        began = time.monotonic()
        with self._writing():
            current = self.table()
            if current.generation != expect:
                raise StaleWriter(f"the route table is at generation {current.generation}, not {expect}: somebody moved it; read it again")
            if change and (change.share_bp or change.shadow_bp):
                self._refuse_if_latched(change.name)
            following = self._folder.fenced(_checked(lambda: edit(current)))
            validate(self._bootstrap(), following)
            refused = self._admin.updates().refused  # also: no write while Envoy is down
            reach("before-rename")
            self._store(current, following, change)
            reach("after-rename")
            settled = self._verify(current, following, refused)
            if change and (change.share_bp or change.shadow_bp):
                self._refuse_if_latched(change.name)
            if settled.routes != self._folder.fenced(following).routes:
                raise StaleWriter(f"generation {following.generation} was overwritten while it came into force; read the table again")
            return Applied(settled, time.monotonic() - began)

    def _store(self, current: RouteTable, following: RouteTable, change: ModelRoute | None) -> None:
        try:
            self._folder.store(following, rises=_rises(current, following))
        except Overtaken:
            if change and (change.share_bp or change.shadow_bp):
                self._refuse_if_latched(change.name)
            raise StaleWriter(f"a trip came before generation {following.generation}; read the table again") from None

    def _verify(self, current: RouteTable, following: RouteTable, refused: int) -> RouteTable:
        """See `following` in force, or leave behind what is safe and raise."""
        try:
            return self._await(self._admin, within_s=_IN_FORCE_S, refused=refused)
        except RouteRejected:
            self._folder.withdraw(following, instead=self._folder.fenced(current))
            raise
        except Unreachable:
            if _rises(current, following):  # a lowered share stays in the file: Envoy may yet read it
                self._folder.withdraw(following, instead=self._folder.fenced(current))
            raise

    def _await(self, admin: Admin, *, within_s: float, refused: int | None) -> RouteTable:
        """Wait until Envoy routes by the route file; `refused` is its count of refusals before the write, if known.

        A latch that appears meanwhile is obeyed at once, also another route's: the table returned may be newer than the one written.
        """
        deadline, seen = time.monotonic() + within_s, object()
        time.sleep(_FIRST_LOOK_S)
        while True:
            mark = self._folder.mark()
            if mark != seen:  # reading the table takes Envoy's time when cores are few
                table = settle(self._folder).table
                wanted, seen = version(table), mark
            updates = admin.updates()
            if updates.version == wanted and all(self._agrees(one, wanted) for one in self._draining()):
                break
            if refused is not None and updates.refused > refused:
                raise RouteRejected(
                    f"Envoy refused generation {table.generation}: {self._reason()}. The table before it is still in force."
                )
            if time.monotonic() > deadline:
                self._give_up(table, updates.version, within_s, known=refused is not None)
            time.sleep(_POLL_S)
        shown = admin.routes()
        if shown != table:
            kind = NotInForce if refused is None else RouteRejected
            raise kind(f"Envoy reports generation {table.generation} but routes {shares(shown)} instead of {shares(table)}")
        return table

    def _draining(self) -> list[Admin]:
        """Envoys that finish what they had begun before a handover; they read the same route file."""
        return [Admin(socket, timeout_s=0.5) for socket in self._folder.other_sockets()]

    def _agrees(self, draining: Admin, wanted: str) -> bool:
        try:
            return draining.updates().version == wanted
        except Unreachable:  # it has ended
            return True

    def _give_up(self, table: RouteTable, seen: str, within_s: float, *, known: bool) -> None:
        message = f"Envoy still has {seen or 'no table'} in force {within_s:g} s after generation {table.generation} was written"
        if known:
            raise Unreachable(f"{message}; it may be overloaded. See {self._folder.log_file}")
        raise NotInForce(f"{message}; the latch and the route file are in place. Restart the router. See {self._folder.log_file}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the folder's lock, or raise Unreachable."""
        with self._folder.locked(deadline_s=_LOCK_S) as mine:
            if not mine:
                raise Unreachable(f"another process holds the lock of {self._folder.path} for over {_LOCK_S:g} s; is it hanging?")
            self._folder.sweep()
            yield

    def _refuse_if_latched(self, name: str) -> None:
        latch = self._folder.latches().get(name)
        if latch:
            raise Tripped(f"route {name} was tripped by {latch.by}: {latch.why}. Its share stays 0 until a person resumes it.")

    def _bootstrap(self) -> str:
        try:
            return self._folder.bootstrap_file.read_text()
        except OSError:
            raise UserError(f"no router was ever started in {self._folder.path}; 'crossfade up' starts one") from None

    def _reason(self) -> str:
        """Envoy's newest words about a route file."""
        with suppress(OSError):
            lines = self._folder.log_file.read_text(errors="replace").splitlines()
            told = [line for line in lines[-200:] if "rejected" in line or "update failed" in line.lower() or "Unable" in line]
            if told:
                return told[-1].rpartition("] ")[2]
        return f"see {self._folder.log_file}"


def _known(table: RouteTable, name: str, folder: Path) -> None:
    if name not in {route.name for route in table.routes}:
        there = ", ".join(route.name for route in table.routes) or "none"
        raise UserError(f"no route is called {name!r} in {folder}; there are: {there}")


def _checked(edited: Callable[[], RouteTable]) -> RouteTable:
    """The edited table, validated whole: a copy of a route is not checked when it is made."""
    try:
        return RouteTable.model_validate(edited().model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"these routes cannot stand: {where + ': ' if where else ''}{first['msg']}") from None


def _rises(current: RouteTable, following: RouteTable) -> bool:
    before = {route.name: (route.share_bp, route.shadow_bp) for route in current.routes}
    return any(
        share > was
        for route in following.routes
        for share, was in zip((route.share_bp, route.shadow_bp), before.get(route.name, (0, 0)), strict=True)
    )
