"""`ports.Metrics` on a Prometheus that scrapes the router."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from crossfade.judge.evidence import Blind, Interval, Reading
from crossfade.plan.units import format_seconds
from crossfade.prometheus import queries
from crossfade.prometheus.asking import Asking, NoAnswer
from crossfade.prometheus.counting import into_intervals
from crossfade.prometheus.increase import Labels, Nonsense, Series, Vector, from_zero, read_series, steps

_CHUNK_S = 600.0
"""Longest span asked at once: some 800 series a route, a sample a second, stay below Prometheus' limits and a few megabytes."""

_EARLIER_SCRAPES_S = 120.0
_CLOCK_SKEW_S = 5.0


class PrometheusMetrics:
    """Evidence of the router's counters. Every way of not knowing comes back as Blind with its reason, nothing is raised.

    `timeout_s` bounds each question, `stale_after_s` the age of the newest sample: set it to a few scrape intervals.
    """

    def __init__(self, url: str, *, timeout_s: float, stale_after_s: float) -> None:
        self._asking = Asking(url, timeout_s=timeout_s)
        self._stale_after_s = stale_after_s

    def intervals(self, route: str, *, since_s: float, now_s: float) -> Sequence[Interval] | Blind:
        """What was counted after `since_s` up to the newest sample, in intervals of 15 s or what the span allows.

        A route nobody used has intervals of zeros as long as the router is being scraped; none at all means that no sample has come
        since, and that the one before is still fresh.
        """
        try:
            return self._intervals(route, since_s, now_s)
        except (NoAnswer, Nonsense) as error:
            return Blind(gate=f"requests of {route}", why=str(error))

    def read(self, gate: str, promql: str) -> Reading | Blind:
        """The one number the query gives now, if Prometheus has scraped anything within `stale_after_s`.

        An endpoint that stops answering vanishes from results at once; only a Prometheus that itself stops goes on giving
        old numbers for minutes, and says nothing of their age.
        """
        try:
            value = _one_number(self._asking.ask(promql))
            age_s = _one_number(self._asking.ask(queries.SCRAPE_AGE))
        except (NoAnswer, Nonsense) as error:
            return Blind(gate=gate, why=str(error))
        if age_s > self._stale_after_s:
            return Blind(gate=gate, why=f"Prometheus has scraped nothing for {format_seconds(round(age_s))}")
        return Reading(gate=gate, value=value)

    def _intervals(self, route: str, since_s: float, now_s: float) -> Sequence[Interval]:
        selector = queries.counters(route)
        # back to what still counts as fresh: a span shorter than the scrape interval may hold no sample, and that is not blindness
        seen = _joined(self._chunks(selector, min(since_s, now_s - self._stale_after_s), now_s))
        until_s = self._newest(seen, now_s)
        if until_s <= since_s:
            return ()
        counted = [later for series in seen if series.name != queries.ROUTER_ALIVE and (later := series.after(since_s)).samples]
        before = read_series(self._asking.ask(selector, at_s=since_s))
        known = {(series.name, series.labels): series.samples[-1][1] for series in before}
        starts = self._starts(counted, known, since_s, now_s)
        return into_intervals(
            [(series, steps(series, before=start)) for series, start in zip(counted, starts, strict=True)],
            since_s=since_s,
            until_s=until_s,
        )

    def _chunks(self, selector: str, from_s: float, now_s: float) -> Iterator[Series]:
        """Samples later than `from_s`; a range includes its start in some versions of Prometheus and not in others."""
        while from_s < now_s:
            until_s = min(from_s + _CHUNK_S, now_s)
            result = self._asking.ask(queries.over(selector, until_s - from_s), at_s=until_s)
            for series in read_series(result):
                yield series.after(from_s)
            from_s = until_s

    def _newest(self, found: Iterable[Series], now_s: float) -> float:
        newest_s = max((series.samples[-1][0] for series in found), default=-math.inf)
        if math.isinf(newest_s):
            raise NoAnswer("Prometheus has no samples of the router in this time; is it scraped?")
        if now_s - newest_s > self._stale_after_s:
            age = format_seconds(round(now_s - newest_s))
            raise NoAnswer(f"the newest sample is {age} old, the plan allows {format_seconds(self._stale_after_s)}")
        if newest_s > now_s + _CLOCK_SKEW_S:
            raise Nonsense(f"the newest sample is {newest_s - now_s:.0f} s in the future")
        return newest_s

    def _starts(self, found: Sequence[Series], known: dict[tuple[str, Labels], Vector], since_s: float, now_s: float) -> list[Vector]:
        """What each series had counted when the span began.

        A series without an earlier sample began at zero if its endpoint had been read before without it. If that was never read
        before (Prometheus just started), nobody knows when it counted its first value: that is a reference, not evidence.
        """
        first_read: dict[tuple[str, str], float] = {}
        starts = []
        for series in found:
            earlier = known.get((series.name, series.labels))
            endpoint = (series.label("job"), series.label("instance"))
            if earlier is None and endpoint not in first_read:
                first_read[endpoint] = self._first_read_s(endpoint, since_s, now_s)
            if earlier is not None:
                starts.append(earlier)
            else:
                first_s, values = series.samples[0]
                starts.append(from_zero(series) if first_read[endpoint] < first_s else values)
        return starts

    def _first_read_s(self, endpoint: tuple[str, str], since_s: float, now_s: float) -> float:
        """When Prometheus first read an endpoint successfully; minus infinity when it keeps no record of that at all."""
        span_s = now_s - since_s + _EARLIER_SCRAPES_S
        record = read_series(self._asking.ask(queries.over(queries.scrapes(*endpoint), span_s), at_s=now_s))
        good = [at_s for series in record for at_s, values in series.samples if all(values.values())]
        return min(good, default=math.inf if record else -math.inf)


def _joined(chunks: Iterable[Series]) -> list[Series]:
    joined: dict[tuple[str, Labels], Series] = {}
    for series in chunks:
        earlier = joined.get((series.name, series.labels))
        samples = (*earlier.samples, *series.samples) if earlier else series.samples
        if samples:
            joined[series.name, series.labels] = Series(series.name, series.labels, samples)
    return list(joined.values())


def _one_number(result: object) -> float:
    """The value of a scalar or of a vector with one element; raises Nonsense with what to write instead."""
    match result:
        case []:
            raise Nonsense("the query found no data; is that metric scraped, and does every part of the query exist?")
        case [{"value": [_, str(text)]}] | [int() | float(), str(text)]:
            return _finite(text)
        case [{"value": _}, *_]:
            raise Nonsense(f"the query gives {len(result)} values where one number is needed; wrap it in max(), sum() or avg()")
        case [{"values": _}, *_]:
            raise Nonsense("the query gives a range; apply a function such as max_over_time()")
    raise Nonsense("the query gives no number")


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Nonsense(f"the query gives {text[:40]!r}, which is no number") from None
    if not math.isfinite(value):
        raise Nonsense(f"the query gives {text}; a division by zero, or no traffic to divide by")
    return value
