"""Make journal and router agree, for every migration under way."""

from __future__ import annotations

from prefect import flow

from tasks.reconcile import list_under_way, reconcile_one


@flow(name="reconcile", log_prints=False)
def reconcile() -> None:
    """Never raises a share: what is lower, journal or router, holds."""
    for migration in list_under_way():
        reconcile_one(migration)
