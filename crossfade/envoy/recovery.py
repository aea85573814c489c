"""What the router may serve after whatever happened to its files: never more on a target than somebody is known to have wanted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from crossfade.envoy.folder import Overtaken, RouteFolder
from crossfade.envoy.routefile import Unreadable
from crossfade.errors import Unreachable
from crossfade.rollout.routes import ModelRoute, RouteTable

_LOG = logging.getLogger(__name__)

_TRIES = 20
"""Each is lost to another process's trip that happened meanwhile; a model has one before a person resumes it."""


@dataclass(frozen=True)
class Sound:
    """The route file was readable; `table` is what it holds now, with latched routes at 0."""

    table: RouteTable


@dataclass(frozen=True)
class Lowered:
    """A route that came back with less on its target than the restored generation gave it."""

    route: str
    from_bp: int
    to_bp: int
    why: str

    def __str__(self) -> str:
        return f"{self.route} from {self.from_bp / 100:g}% to {self.to_bp / 100:g}%: {self.why}"


@dataclass(frozen=True)
class Restored:
    """The route file could not be used, and why; `table` came out of the newest good generation, less what was `lowered`.

    `generation` is the one it came out of, 0 when none was readable: then everything is on the source.
    """

    table: RouteTable
    because: str
    generation: int
    lowered: tuple[Lowered, ...]

    def __str__(self) -> str:
        lowered = "".join(f"; {one}" for one in self.lowered)
        return (
            f"route file unusable ({self.because}): generation {self.generation} restored as generation {self.table.generation} "
            f"with shares {shares(self.table)}{lowered}"
        )


Settled = Sound | Restored


def settle(folder: RouteFolder, intents: Mapping[str, int] | None = None) -> Settled:
    """Make the route file readable and fenced, writing only if it is not. Idempotent.

    `intents` are the newest shares, by route and in basis points, that the caller knows were wanted; they matter only when a
    table must be restored. What was restored is also a warning in the log.
    """
    for _ in range(_TRIES):
        with suppress(Overtaken):
            return _settled(folder, intents or {})
    raise Unreachable(f"trips in {folder.path} came first {_TRIES} times in a row; try again")


def _settled(folder: RouteFolder, intents: Mapping[str, int]) -> Settled:
    try:
        table = folder.table()
    except Unreadable as error:
        restored = _restored(folder, str(error), intents)
        folder.store(restored.table)
        _LOG.warning("%s", restored)
        return restored
    fenced = folder.fenced(table)
    if fenced != table:
        table = RouteTable(generation=table.generation + 1, routes=fenced.routes)
        folder.store(table)
    elif not folder.holds(table):  # nothing yet, or what an older version of ours wrote
        folder.store(table)
    return Sound(table)


def history(folder: RouteFolder) -> Iterator[RouteTable]:
    """Readable generations, newest first."""
    return (table for table in folder.generations() if isinstance(table, RouteTable))


def shares(table: RouteTable) -> str:
    """For messages: each route and its share."""
    return ", ".join(f"{route.name}={route.share_bp / 100:g}%" for route in table.routes) or "everything to the source"


def _restored(folder: RouteFolder, because: str, intents: Mapping[str, int]) -> Restored:
    lost: list[Unreadable] = []
    newest, before = RouteTable(), RouteTable()
    found = folder.generations()
    for table in found:
        if isinstance(table, RouteTable):
            newest, before = table, next((older for older in found if isinstance(older, RouteTable)), table)
            break
        lost.append(table)
    lowered = [_lowered(route, before, folder, lost, intents) for route in newest.routes]
    routes = tuple(
        route.with_at_most(one.to_bp, route.shadow_bp if one.to_bp else 0) for route, one in zip(newest.routes, lowered, strict=True)
    )
    return Restored(
        table=RouteTable(generation=folder.newest_number() + 1, routes=routes),
        because=because,
        generation=newest.generation,
        lowered=tuple(one for one in lowered if one.to_bp < one.from_bp),
    )


def _lowered(route: ModelRoute, before: RouteTable, folder: RouteFolder, lost: list[Unreadable], intents: Mapping[str, int]) -> Lowered:
    """Which generation was in force when the route file broke is not known; the lowest share is the safe guess."""
    latch = folder.latches().get(route.name)
    if latch:
        return Lowered(route.name, route.share_bp, 0, f"tripped by {latch.by}: {latch.why}")
    if lost:
        return Lowered(route.name, route.share_bp, 0, f"a newer generation may have lowered it and cannot be read ({lost[0]})")
    if intents.get(route.name, route.share_bp) < route.share_bp:
        return Lowered(route.name, route.share_bp, 0, f"its newest intent was {intents[route.name] / 100:g}%")
    earlier_bp = {older.name: older.share_bp for older in before.routes}.get(route.name, 0)
    return Lowered(route.name, route.share_bp, min(route.share_bp, earlier_bp), "whether the rise was in force is not known")
