"""Whole intervals of evidence that tile time, whoever asks and however often.

A grid begins at the caller's `since` and has a line every `every_ms`. A line is a cut when the router was scraped at least once in
the cell before it; the time between two cuts is an interval. So an interval whose counts are zero was looked at and nobody asked,
and where nothing was scraped there is no cut: the interval grows over the gap and its counts come with the next scrape. Whether a
line is a cut depends only on samples before it, which never change, so it is the same for every caller that comes later.

What a series had counted when an interval began is its newest sample before, however far back. Without one:

| the process of the router | the series |
|---|---|
| was scraped before, without this series | began at zero |
| was never scraped before, but began while Prometheus scraped another one (a hot handover) | began at zero |
| was never scraped before, else (Prometheus is new) | nobody knows: a reference, no evidence |

A grid that begins where nothing is scraped also begins with a reference: part of what comes with the first scrape belongs to the
time before, perhaps to another share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from crossfade.judge.evidence import Interval
from crossfade.prometheus.counting import Tallies
from crossfade.prometheus.increase import Labels, Series, Step, Vector, from_zero, steps
from crossfade.prometheus.queries import ROUTER_ALIVE
from crossfade.prometheus.samples import Endpoint, Samples, endpoint_of, to_ms

_CHUNK_MS = 240_000
"""Longest span read at once: some 900 series a route with a sample a second are then about 7 MB of answer."""

RECENT_MS = 300_000
LONG_AGO_MS = 86_400_000
"""How far back a series is looked for: first as far as every call does, then, when its process was not scraped meanwhile, this far."""

_UPTIME_SLACK_MS = 2_000
"""Uptime is in whole seconds and refreshed once a second."""

_BEING_SCRAPED_MS = 2_000
"""How long the first scrape of a new process may be under way: samples carry the time at which their scrape began."""

_MOST_AT_ONCE = 240
"""Intervals per call; an hour of the usual ones, some 20 MB with both histograms. Whoever comes later than that calls again."""


def all_there_until(alive: Sequence[Series], *, now_ms: int, stale_ms: int) -> int:
    """Up to when no sample can still come, by the newest signs of life of each process.

    One process's scrapes come one after the other, several processes' in any order. A process whose newest sample is `stale_ms` older
    than another's is gone and not waited for; so one scrape may take no longer than that.
    """
    newest = [to_ms(series.samples[-1][0]) for series in alive]
    return min(now_ms - _BEING_SCRAPED_MS, *(at_ms for at_ms in newest if at_ms >= max(newest) - stale_ms))


def tile(samples: Samples, *, since_ms: int, until_ms: int, every_ms: int, handover_ms: int) -> Sequence[Interval]:
    """The whole intervals between `since_ms` and `until_ms`, at most about an hour of them, oldest first.

    Up to `until_ms` no sample may be missing any more. `handover_ms` is how long before a new process began another one must have been
    scraped. Begins `since_ms` at the end of the last interval of another call, the two lists are as one. Raises what `samples` raises.
    """
    lines = (until_ms - since_ms) // every_ms
    if lines < 1:  # whoever comes right after another call has nothing to ask for
        return []
    per_chunk = max(1, _CHUNK_MS // every_ms)
    # most calls end with their first chunk, so it is asked for together with the cell before it: one answer with both
    found = samples.span(since_ms - every_ms, since_ms + min(per_chunk, lines) * every_ms)
    tiling = _Tiling(samples, since_ms, every_ms, handover_ms, _some(one.until(since_ms / 1000) for one in found))
    tiling.count(since_ms, _some(one.after(since_ms / 1000) for one in found))
    for first in range(per_chunk, lines, per_chunk):
        if len(tiling.intervals) >= _MOST_AT_ONCE:
            break
        from_ms = since_ms + first * every_ms
        tiling.count(from_ms, samples.span(from_ms, since_ms + min(first + per_chunk, lines) * every_ms))
    return tiling.intervals


def _some(found: Iterable[Series]) -> list[Series]:
    return [series for series in found if series.samples]


class _Tiling:
    """Intervals while they are being counted, chunk after chunk. Keeps of each series only its newest value."""

    def __init__(self, samples: Samples, since_ms: int, every_ms: int, handover_ms: int, before: Sequence[Series]) -> None:
        self.intervals: list[Interval] = []
        self._samples = samples
        self._every_ms = every_ms
        self._handover_ms = handover_ms
        self._cut_ms = since_ms  # up to here there are intervals
        self._pending = Tallies()
        self._values: dict[tuple[str, Labels], Vector] = {}
        self._scraped: set[Endpoint] = set()  # processes whose series are all in _values
        self._looked_for: set[Endpoint] = set()
        self._begins_in_a_gap = all(series.name != ROUTER_ALIVE for series in before)
        # a scrape has all series of its process, so what it lacks did not exist
        self._remember(samples.last(since_ms, RECENT_MS) if self._begins_in_a_gap else before)

    def count(self, from_ms: int, found: Sequence[Series]) -> None:
        """Count the cells of the grid from there on to the end of these samples."""
        scrapes = _scrapes(found)
        if not scrapes:
            return
        references = self._references(scrapes, from_ms)
        tallies: dict[int, Tallies] = defaultdict(Tallies)
        for series in found:
            if series.name != ROUTER_ALIVE:
                for step in self._steps(series, scrapes, references):
                    tallies[self._line_after(step.at_s, from_ms)].add(series, step)
        cuts = {self._line_after(at_s, from_ms) for times in scrapes.values() for at_s in times}
        for line_ms in sorted(cuts | tallies.keys()):
            self._pending = self._pending.merged(tallies[line_ms])
            if line_ms in cuts:
                self.intervals.append(self._pending.interval(self._cut_ms / 1000, line_ms / 1000))
                self._cut_ms, self._pending = line_ms, Tallies()
        self._remember(found)

    def _line_after(self, at_s: float, from_ms: int) -> int:
        cells = -((from_ms - to_ms(at_s)) // self._every_ms)  # rounded up: a sample on a line belongs before it
        return from_ms + cells * self._every_ms

    def _references(self, scrapes: dict[Endpoint, list[float]], from_ms: int) -> dict[Endpoint, float]:
        """The scrape per process before which nothing counts, where the grid began in a gap."""
        if not self._begins_in_a_gap:
            return {}
        self._begins_in_a_gap = False
        first_cut_ms = self._line_after(min(times[0] for times in scrapes.values()), from_ms)
        return {endpoint: times[0] for endpoint, times in scrapes.items() if to_ms(times[0]) <= first_cut_ms}

    def _steps(self, series: Series, scrapes: dict[Endpoint, list[float]], references: dict[Endpoint, float]) -> Iterable[Step]:
        endpoint, (first_s, values) = endpoint_of(series), series.samples[0]
        if endpoint in references:
            start = values if first_s <= references[endpoint] else from_zero(series)
        else:
            start = self._start(series, endpoint, seen_before=any(at_s < first_s for at_s in scrapes.get(endpoint, ())[:1]))
        return steps(series, before=start)

    def _start(self, series: Series, endpoint: Endpoint, *, seen_before: bool) -> Vector:
        """What a series had counted before its first sample here; the table above."""
        key, (first_s, values) = (series.name, series.labels), series.samples[0]
        if key not in self._values and not seen_before and endpoint not in self._scraped | self._looked_for:
            self._look_further_back(endpoint, to_ms(first_s))
        if key in self._values:
            return self._values[key]
        if endpoint in self._scraped or seen_before:
            return from_zero(series)
        return values

    def _look_further_back(self, endpoint: Endpoint, first_ms: int) -> None:
        """Find out about a process that was not scraped lately: it may have been, long ago, or it may be new."""
        self._looked_for.add(endpoint)
        self._remember(one for one in self._samples.last(first_ms - 1, LONG_AGO_MS) if endpoint_of(one) == endpoint)
        if endpoint in self._scraped:
            return
        uptime_s = self._samples.uptime(endpoint, first_ms)
        if uptime_s is not None:
            began_ms = first_ms - to_ms(uptime_s) - _UPTIME_SLACK_MS
            if self._samples.alive(began_ms - self._handover_ms, began_ms):
                self._scraped.add(endpoint)

    def _remember(self, found: Iterable[Series]) -> None:
        for series in found:
            if series.name == ROUTER_ALIVE:
                self._scraped.add(endpoint_of(series))
            else:
                self._values[series.name, series.labels] = series.samples[-1][1]


def _scrapes(found: Iterable[Series]) -> dict[Endpoint, list[float]]:
    """When each process was scraped, by its sign of life."""
    times: dict[Endpoint, list[float]] = {}
    for series in found:
        if series.name == ROUTER_ALIVE:
            times.setdefault(endpoint_of(series), []).extend(at_s for at_s, _ in series.samples)
    return {endpoint: sorted(at) for endpoint, at in times.items()}
