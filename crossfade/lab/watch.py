"""Look at a migration from outside: the journal file, Prometheus and the clients' report. Changes nothing."""

from __future__ import annotations

import time

from crossfade.errors import CrossfadeError
from crossfade.judge.evidence import Blind, Counts
from crossfade.lab.client_report import ClientReport, load_report
from crossfade.lab.stack import Lab
from crossfade.lab.view import Snapshot
from crossfade.prometheus.metrics import PrometheusMetrics
from crossfade.rollout.names import route_name
from crossfade.store import open_journal


class Watch:
    """One migration of a lab under observation, from the moment this object is made."""

    def __init__(self, lab: Lab, migration: str) -> None:
        self._lab, self.migration, self.began_s = lab, migration, time.time()
        self._metrics = PrometheusMetrics(f"http://127.0.0.1:{lab.ports.prometheus}", timeout_s=3, stale_after_s=30)

    def snapshot(self) -> Snapshot:
        """The present state; parts that do not answer show as nothing rather than stopping the view."""
        stage, share_bp, because = self._journal()
        source, target = self._engines()
        clients = self.clients()
        return Snapshot(
            stage=stage,
            share_bp=share_bp,
            because=because,
            source=source,
            target=target,
            client_requests=clients.requests,
            client_failed=clients.failed,
            elapsed_s=time.time() - self.began_s,
        )

    def clients(self) -> ClientReport:
        """What the clients saw so far."""
        return load_report(self._lab.folder / "clients.json")

    def _journal(self) -> tuple[str, int, str]:
        try:
            state = open_journal(self._lab.home).state(self.migration)
        except CrossfadeError:
            return "starting", 0, "waiting for the flow run to begin"
        return str(state.phase), state.share_bp, state.because

    def _engines(self) -> tuple[Counts, Counts]:
        found = self._metrics.intervals(route_name(self.migration), since_s=self.began_s, now_s=time.time())
        source, target = Counts(), Counts()
        for interval in () if isinstance(found, Blind) else found:
            source, target = source + interval.source, target + interval.target
        return source, target
