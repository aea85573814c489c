"""Make journal and router agree, for every migration under way."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from crossfade.errors import CrossfadeError
from tasks.reconcile import list_under_way, reconcile_one


@flow(name="reconcile", log_prints=False, persist_result=False)
def reconcile() -> State[str]:
    """Never raises a share: what is lower, journal or router, holds. One that cannot be reconciled fails the run after all the others."""
    under_way = list_under_way()
    wrong = [problem for migration in under_way if (problem := _reconciled(migration))]
    if wrong:
        return Failed(message=f"{len(wrong)} of {len(under_way)} under way need a person: {'; '.join(wrong[:3])}")
    return Completed(message=f"{len(under_way)} under way, and the router agrees with the journal")


def _reconciled(migration: str) -> str:
    """What went wrong, for the others must have their turn; empty when nothing did."""
    try:
        reconcile_one(migration)
    except CrossfadeError as error:
        return f"{migration}: {error}"
    return ""
