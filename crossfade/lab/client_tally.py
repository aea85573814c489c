"""Counting while the load runs. Percentiles stay cheap: latencies are kept sorted as they come."""

from __future__ import annotations

import bisect
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from crossfade.lab.client_report import KINDS, ClientReport, ErrorKind, Failure, Kind, KindReport, Latencies

RECENT_S = 30.0
"""How far back the `recent` numbers look."""


@dataclass(frozen=True)
class Answered:
    """A whole answer. `ttft_ms` is None for a request that was not streamed."""

    done_s: float
    total_ms: float
    ttft_ms: float | None
    wrong: bool


@dataclass
class _KindTally:
    requests: int = 0
    answered: int = 0
    failed: int = 0
    wrong: int = 0
    total_ms: list[float] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)
    recent: deque[Answered] = field(default_factory=deque)


class Tally:
    """Counts of a running load; `report` gives them as they stand. Times are seconds since the epoch, passed in."""

    def __init__(self, *, started_s: float, rps: float) -> None:
        self._started_s = started_s
        self._rps = rps
        self._kinds: dict[Kind, _KindTally] = {kind: _KindTally() for kind in KINDS}
        self._errors: Counter[ErrorKind] = Counter()
        self._failures: list[Failure] = []
        self._saturated = 0
        self._abandoned = 0

    def sent(self, kind: Kind) -> None:
        """A request left."""
        self._kinds[kind].requests += 1

    def saturated(self) -> None:
        """A request was due and could not be sent."""
        self._saturated += 1

    def abandoned(self, count: int) -> None:
        """`count` requests did not end before the load had to."""
        self._abandoned += count

    def answered(self, kind: Kind, answer: Answered) -> None:
        """A request got its whole answer."""
        tally = self._kinds[kind]
        tally.answered += 1
        tally.wrong += answer.wrong
        bisect.insort(tally.total_ms, answer.total_ms)
        if answer.ttft_ms is not None:
            bisect.insort(tally.ttft_ms, answer.ttft_ms)
        tally.recent.append(answer)

    def failed(self, failure: Failure) -> None:
        """A request failed."""
        self._kinds[failure.kind].failed += 1
        self._errors[failure.error] += 1
        self._failures.append(failure)

    def report(self, *, now_s: float, finished: bool) -> ClientReport:
        """The counts as they stand."""
        for tally in self._kinds.values():
            while tally.recent and tally.recent[0].done_s < now_s - RECENT_S:
                tally.recent.popleft()
        requests, answered, failed = (
            sum(getattr(tally, name) for tally in self._kinds.values()) for name in ("requests", "answered", "failed")
        )
        return ClientReport(
            started_s=self._started_s,
            updated_s=now_s,
            finished=finished,
            rps=self._rps,
            requests=requests,
            answered=answered,
            failed=failed,
            abandoned=self._abandoned,
            in_flight=requests - answered - failed - self._abandoned,
            saturated=self._saturated,
            wrong=sum(tally.wrong for tally in self._kinds.values()),
            errors=dict(self._errors),
            overall=_latencies(
                sorted(ms for tally in self._kinds.values() for ms in tally.total_ms),
                sorted(ms for tally in self._kinds.values() for ms in tally.ttft_ms),
            ),
            recent=_recent([answer for tally in self._kinds.values() for answer in tally.recent]),
            kinds=tuple(_kind_report(kind, tally) for kind, tally in self._kinds.items()),
            failures=tuple(self._failures),
        )


def _kind_report(kind: Kind, tally: _KindTally) -> KindReport:
    return KindReport(
        kind=kind,
        requests=tally.requests,
        answered=tally.answered,
        failed=tally.failed,
        wrong=tally.wrong,
        overall=_latencies(tally.total_ms, tally.ttft_ms),
        recent=_recent(tally.recent),
    )


def _recent(answers: Sequence[Answered]) -> Latencies:
    return _latencies(
        sorted(answer.total_ms for answer in answers), sorted(answer.ttft_ms for answer in answers if answer.ttft_ms is not None)
    )


def _latencies(total_ms: Sequence[float], ttft_ms: Sequence[float]) -> Latencies:
    return Latencies(
        n=len(total_ms),
        ttft_p50_ms=percentile(ttft_ms, 0.5),
        ttft_p95_ms=percentile(ttft_ms, 0.95),
        total_p50_ms=percentile(total_ms, 0.5),
        total_p95_ms=percentile(total_ms, 0.95),
    )


def percentile(rising: Sequence[float], quantile: float) -> float | None:
    """The nearest-rank percentile of sorted numbers, rounded to 0.1; None without data."""
    if not rising:
        return None
    return round(rising[min(len(rising) - 1, int(quantile * len(rising)))], 1)
