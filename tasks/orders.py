"""A person's order to a ramp, carried out and journaled."""

from __future__ import annotations

from typing import Literal

from prefect import get_run_logger

from crossfade.errors import UserError
from crossfade.ramp import orders
from crossfade.way_back import bring_back
from crossfade.wiring import open_bench
from tasks.quiet import quiet_task

Do = Literal["pause", "resume", "abort", "approve", "reject"]

_CARRIED_OUT_BY = {
    "pause": orders.pause,
    "resume": orders.resume,
    "approve": orders.approve,
    "reject": orders.reject,
}


@quiet_task("{do} {migration}", retries=5)
def order(do: Do, migration: str, by: str, why: str) -> str:
    """Carry it out; returns what is so now. Raises UserError when it makes no sense for the migration as it is."""
    if not why.strip():
        raise UserError(f"say why: the journal keeps who told {migration} to {do}, and for what reason.")
    line = _abort(migration, by, why) if do == "abort" else _CARRIED_OUT_BY[do](open_bench(migration).desk, migration, by=by, why=why)
    get_run_logger().info(line)
    return line


def _abort(migration: str, by: str, why: str) -> str:
    """Needs no bench: neither a plan that cannot be read nor a journal that is down may be in its way."""
    return str(bring_back(migration, why=why, by=by, refuse=orders.nothing_to_abort))
