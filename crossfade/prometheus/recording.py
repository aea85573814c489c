"""A stretch of a route's raw samples as a text to keep, and the same intervals out of it again.

Only what changed is written: a counter's first value, then for each sample that brought more its number and by how much. An hour of one
route is a few hundred kilobytes of JSON, and a tenth of that packed with gzip. Nothing of any request's content is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crossfade.errors import UserError
from crossfade.judge.evidence import Interval
from crossfade.prometheus.counting import INTERVAL_S
from crossfade.prometheus.increase import Labels, Nonsense, Series, Vector
from crossfade.prometheus.queries import ROUTER_ALIVE
from crossfade.prometheus.samples import Endpoint, Samples, endpoint_of, to_ms
from crossfade.prometheus.tiling import LONG_AGO_MS, RECENT_MS, tile

_FORMAT = 1
_CHUNK_MS = 240_000


@dataclass(frozen=True)
class Recording:
    """Raw samples of one route, read from a text: `samples.Samples` without a Prometheus."""

    route: str
    since_s: float
    until_s: float
    handover_ms: int
    series: tuple[Series, ...]
    began_ms: Mapping[Endpoint, int]

    def alive(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """One sample for each successful scrape."""
        return [series for series in self.span(from_ms, until_ms) if series.name == ROUTER_ALIVE]

    def span(self, from_ms: int, until_ms: int) -> Sequence[Series]:
        """The sign of life and everything that was counted."""
        cut = (_within(series, from_ms, until_ms) for series in self.series)
        return [series for series in cut if series.samples]

    def last(self, at_ms: int, back_ms: int) -> Sequence[Series]:
        """The newest value of each series."""
        return [replace(series, samples=series.samples[-1:]) for series in self.span(at_ms - back_ms, at_ms)]

    def uptime(self, endpoint: Endpoint, at_ms: int) -> float | None:
        """Seconds a process had been running."""
        began_ms = self.began_ms.get(endpoint)
        return None if began_ms is None else (at_ms - began_ms) / 1000


def record(samples: Samples, route: str, *, since_s: float, until_s: float, handover_ms: int) -> str:
    """JSON text of what `samples` hold up to `until_s`, which must lie some seconds in the past. Raises what `samples` raises."""
    since_ms, until_ms = to_ms(since_s), to_ms(until_s)
    written: dict[tuple[str, Labels, tuple[float, ...]], _Column] = {}
    first_seen: dict[Endpoint, int] = {}
    for series in _everything(samples, since_ms, until_ms):
        if series.name == ROUTER_ALIVE:
            first_seen.setdefault(endpoint_of(series), to_ms(series.samples[0][0]))
        for at_s, values in series.samples:
            column = written.setdefault((series.name, series.labels, tuple(sorted(values))), _Column())
            column.add(to_ms(at_s), values)
    uptimes = {endpoint: samples.uptime(endpoint, at_ms) for endpoint, at_ms in first_seen.items()}
    content = {
        "crossfade_recording": _FORMAT,
        "route": route,
        "since_s": since_ms / 1000,
        "until_s": until_ms / 1000,
        "handover_ms": handover_ms,
        "began": [[*endpoint, first_seen[endpoint] - to_ms(uptime)] for endpoint, uptime in uptimes.items() if uptime is not None],
        "series": [{"name": name, "labels": dict(sorted(labels)), **column.written()} for (name, labels, _), column in written.items()],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def replay(text: str, *, every_s: float = INTERVAL_S) -> tuple[Interval, ...]:
    """The intervals `complete_intervals` would have given, however often it had been asked; raises UserError."""
    recording = read_recording(text)
    since_ms, until_ms, every_ms = to_ms(recording.since_s), to_ms(recording.until_s), to_ms(every_s)
    intervals: list[Interval] = []
    while found := tile(recording, since_ms=since_ms, until_ms=until_ms, every_ms=every_ms, handover_ms=recording.handover_ms):
        intervals.extend(found)
        since_ms = to_ms(found[-1].end_s)
    return tuple(intervals)


def read_recording(text: str) -> Recording:
    """The samples in a text that `record` wrote; raises UserError for anything else."""
    try:
        content = json.loads(text)
        if content["crossfade_recording"] != _FORMAT:
            raise UserError(f"this recording has format {content['crossfade_recording']!r}, this version reads {_FORMAT}")
        return Recording(
            route=str(content["route"]),
            since_s=float(content["since_s"]),
            until_s=float(content["until_s"]),
            handover_ms=int(content["handover_ms"]),
            series=tuple(_joined(content["series"])),
            began_ms={(str(job), str(instance)): int(at_ms) for job, instance, at_ms in content["began"]},
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"not a recording of Prometheus samples ({type(error).__name__}: {error}); make one with `record`, unpack it if it is packed"
        ) from None


@dataclass
class _Column:
    """One series while it is being written. Times are steps in milliseconds; changes are `[sample, by, sample, by, ...]`."""

    times: list[int] = field(default_factory=list)
    first: dict[float, int] = field(default_factory=dict)
    changes: dict[float, list[int]] = field(default_factory=dict)
    _newest_ms: int = 0
    _newest: dict[float, int] = field(default_factory=dict)

    def add(self, at_ms: int, values: Vector) -> None:
        now = {bound: _whole(value) for bound, value in values.items()}
        if not self.times:
            self.first, self.changes = now, {bound: [] for bound in now}
        for bound, value in now.items():
            if self._newest and value != self._newest[bound]:
                self.changes[bound] += [len(self.times), value - self._newest[bound]]
        self.times.append(at_ms - self._newest_ms)
        self._newest_ms, self._newest = at_ms, now

    def written(self) -> dict[str, object]:
        bounds = {repr(bound): [self.first[bound], *changes] for bound, changes in self.changes.items()}
        return {"times_ms": self.times, "values": bounds}


def _whole(value: float) -> int:
    if value != int(value):
        raise Nonsense(f"a count cannot be {value}")
    return int(value)


def _everything(samples: Samples, since_ms: int, until_ms: int) -> Iterator[Series]:
    """All samples an interval from `since_ms` on may be counted with, each once and in order."""
    recent_ms = since_ms - RECENT_MS
    for series in samples.last(recent_ms, LONG_AGO_MS):
        yield replace(series, samples=((recent_ms / 1000, series.samples[-1][1]),))
    for from_ms in range(recent_ms, until_ms, _CHUNK_MS):
        yield from samples.span(from_ms, min(from_ms + _CHUNK_MS, until_ms))


def _joined(written: Iterable[Mapping[str, Any]]) -> Iterator[Series]:
    """A series whose bounds changed was written as two."""
    found: dict[tuple[str, Labels], list[tuple[float, Vector]]] = {}
    for one in written:
        found.setdefault((one["name"], frozenset(one["labels"].items())), []).extend(_samples(one))
    for (name, labels), samples in found.items():
        yield Series(name, labels, tuple(sorted(samples, key=lambda sample: sample[0])))


def _samples(one: Mapping[str, Any]) -> Iterator[tuple[float, Vector]]:
    changed: dict[int, list[tuple[float, int]]] = {}
    values: dict[float, float] = {}
    for text, (first, *changes) in one["values"].items():
        values[float(text)] = float(first)
        for index, by in zip(changes[::2], changes[1::2], strict=True):
            changed.setdefault(index, []).append((float(text), by))
    at_ms = 0
    for index, step_ms in enumerate(one["times_ms"]):
        at_ms += step_ms
        if index in changed:
            values = dict(values)
            for bound, by in changed[index]:
                values[bound] += by
        yield at_ms / 1000, values


def _within(series: Series, from_ms: int, until_ms: int) -> Series:
    return replace(series, samples=tuple(sample for sample in series.samples if from_ms < to_ms(sample[0]) <= until_ms))
