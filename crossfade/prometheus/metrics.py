"""`ports.Metrics` on a Prometheus that scrapes the router."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from crossfade.errors import Unreachable
from crossfade.judge.evidence import Blind, Interval, Reading, Refused
from crossfade.plan.gates import MEASURES, Measure
from crossfade.plan.units import format_seconds
from crossfade.prometheus import queries
from crossfade.prometheus.asking import Asking, NoAnswer, Rejected
from crossfade.prometheus.counting import INTERVAL_S, into_intervals
from crossfade.prometheus.increase import Labels, Nonsense, Series, Vector, from_zero, read_series, steps
from crossfade.prometheus.numbers import NoData, one_number
from crossfade.prometheus.probing import why_no_data
from crossfade.prometheus.recording import record
from crossfade.prometheus.samples import Common, PrometheusSamples, Samples, to_ms
from crossfade.prometheus.tiling import all_there_until, tile

_CHUNK_S = 600.0
"""Longest span asked at once: some 800 series a route, a sample a second, stay below Prometheus' limits and a few megabytes."""

_EARLIER_SCRAPES_S = 120.0
_LOOK_BACK_S = 300.0
"""How far back a series may have its last sample before a span: Prometheus' own idea of not yet gone."""

_CLOCK_SKEW_S = 5.0


class PrometheusMetrics:
    """Evidence of the router's counters. Every way of not knowing comes back as Blind with its reason, nothing is raised.

    `timeout_s` bounds each question, `stale_after_s` the age of the newest sample: set it to a few scrape intervals. `target` names the
    target whose shadow is counted, if it is not the router's own. What is the same for all routes may be `reused_for_s` old: 0 asks anew.
    """

    def __init__(self, url: str, *, timeout_s: float, stale_after_s: float, target: str = "", reused_for_s: float = 0.0) -> None:
        self._asking = Asking(url, timeout_s=timeout_s)
        self._common = Common(self._asking, target, reused_for_s=reused_for_s)
        self._stale_after_s = stale_after_s
        self._target = target

    def intervals(self, route: str, *, since_s: float, now_s: float, measures: frozenset[Measure] = MEASURES) -> Sequence[Interval] | Blind:
        """What was counted after `since_s` up to the newest sample, in intervals of 15 s or what the span allows.

        A route nobody used has intervals of zeros as long as the router is being scraped; none at all means that no sample has come
        since, and that the one before is still fresh.
        """
        try:
            return self._intervals(route, since_s, now_s, measures)
        except (NoAnswer, Nonsense) as error:
            return Blind(gate=f"requests of {route}", why=str(error))

    def complete_intervals(
        self, route: str, *, since_s: float, now_s: float, every_s: float = INTERVAL_S, measures: frozenset[Measure] = MEASURES
    ) -> Sequence[Interval] | Blind:
        """Whole intervals from `since_s` on, each as long as `every_s` or a multiple where scrapes are missing; see `tiling`.

        None when no interval has ended since. At most about an hour of them: call again from the end of the last one until there is
        none. Called like that they are the same intervals whatever the times of the calls. Nothing is given while the newest sample is
        stale, also of the time before; it comes when the router is scraped again. Histograms of other `measures` stay empty.
        """
        try:
            samples, since_ms = PrometheusSamples(self._asking, self._common, route, self._target, measures), to_ms(since_s)
            until_ms = self._all_there_until(samples, to_ms(now_s))
            if until_ms <= since_ms:
                return ()
            stale_ms = to_ms(self._stale_after_s)
            return tile(samples, since_ms=since_ms, until_ms=until_ms, every_ms=to_ms(every_s), handover_ms=stale_ms)
        except (NoAnswer, Nonsense) as error:
            return Blind(gate=f"requests of {route}", why=str(error))

    def record(self, route: str, *, since_s: float, until_s: float) -> str:
        """Everything `complete_intervals` counts with between two times, as JSON text for `recording.replay`.

        `until_s` must lie at least `stale_after_s` in the past, or the last samples may be missing. Raises Unreachable.
        """
        samples = PrometheusSamples(self._asking, self._common, route, self._target)
        try:
            return record(samples, route, since_s=since_s, until_s=until_s, handover_ms=to_ms(self._stale_after_s))
        except (NoAnswer, Nonsense) as error:
            raise Unreachable(f"{route} cannot be recorded: {error}") from None

    def _why_silent(self) -> str:
        found = self._asking.ask(queries.silence())
        if found == []:
            return (
                f"Prometheus has never seen {queries.ROUTER_ALIVE}; add the router's metrics address (router.metrics_listen in the plan, "
                "path /stats/prometheus) to its scrape configuration"
            )
        return (
            f"Prometheus last read the router {format_seconds(round(one_number(found)))} ago, the plan's stale_after is "
            f"{format_seconds(self._stale_after_s)}; is the router running, is it still in the scrape configuration, and is the scrape "
            "interval at most a third of stale_after?"
        )

    def _all_there_until(self, samples: Samples, now_ms: int) -> int:
        stale_ms = to_ms(self._stale_after_s)
        alive = samples.alive(now_ms - 2 * stale_ms, now_ms)
        if max((to_ms(series.samples[-1][0]) for series in alive), default=0) < now_ms - stale_ms:
            raise NoAnswer(self._why_silent())
        return all_there_until(alive, now_ms=now_ms, stale_ms=stale_ms)

    def read(self, gate: str, promql: str) -> Reading | Blind:
        """The one number the query gives now, if Prometheus has scraped anything within `stale_after_s`.

        An endpoint that stops answering vanishes from results at once; only a Prometheus that itself stops goes on giving
        old numbers for minutes, and says nothing of their age.
        """
        try:
            value = one_number(self._asking.ask(promql))
            age_s = one_number(self._asking.ask(queries.SCRAPE_AGE))
        except (NoAnswer, Nonsense) as error:
            return Blind(gate=gate, why=str(error))
        if age_s > self._stale_after_s:
            return Blind(gate=gate, why=f"Prometheus has scraped nothing for {format_seconds(round(age_s))}")
        return Reading(gate=gate, value=value)

    def probe(self, gate: str, promql: str) -> Reading | Blind | Refused:
        """What `read` would give, but Refused with what to write instead where the query can never give one number.

        Blind is what may change by itself: Prometheus does not answer, or a metric it knows has no sample now.
        """
        try:
            try:
                one_number(self._asking.ask(promql))
            except NoData:
                return why_no_data(self._asking, gate, promql)
        except (Rejected, Nonsense) as error:
            return Refused(gate=gate, why=str(error))
        except NoAnswer as error:
            return Blind(gate=gate, why=str(error))
        return self.read(gate, promql)

    def bounds(self, route: str, measure: Measure) -> tuple[float, ...] | Blind:
        """Upper bounds in milliseconds of the router's histogram, rising, without infinity.

        All routes have the same, so those of another one are as good while nobody has asked this one.
        """
        gate = f"bounds of {measure}"
        try:
            for selector in (queries.buckets(route, measure), queries.buckets("", measure)):
                named = self._asking.values("le", match=selector)
                bounds = sorted({bound for bound in map(float, named) if math.isfinite(bound)})
                if bounds:
                    return tuple(bounds)
        except (NoAnswer, ValueError) as error:
            return Blind(gate=gate, why=str(error))
        return Blind(gate=gate, why="the router has timed no request yet, of any route; send it one and ask again a few seconds later")

    def _intervals(self, route: str, since_s: float, now_s: float, measures: frozenset[Measure]) -> Sequence[Interval]:
        of_route, _ = queries.evidence(route, measures=measures)
        # back to what still counts as fresh: a span shorter than the scrape interval may hold no sample, and that is not blindness
        from_s = min(since_s, now_s - self._stale_after_s)
        seen = _joined(series for selector in (queries.sign_of_life(), of_route) for series in self._chunks(selector, from_s, now_s))
        until_s = self._newest(seen, now_s)
        if until_s <= since_s:
            return ()
        counted = [later for series in seen if series.name != queries.ROUTER_ALIVE and (later := series.after(since_s)).samples]
        before = read_series(self._asking.ask(queries.last(of_route, _LOOK_BACK_S), at_s=since_s))
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
            raise Nonsense(_from_the_future(newest_s - now_s))
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


def _from_the_future(seconds: float) -> str:
    return f"the newest sample is {seconds:.0f} s in the future; set the clocks of this machine and of Prometheus by the same source"
