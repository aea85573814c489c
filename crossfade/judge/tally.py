"""What people read beside a verdict: counts of the present step, and an interval the true rate lies in whenever one looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lgamma, log, log1p

from crossfade.judge.baseline import Baseline
from crossfade.judge.evidence import Histogram, Interval, sum_of, thinned
from crossfade.judge.histogram import slower_than, total
from crossfade.judge.latencies import percentile_bound
from crossfade.judge.state import JudgeState, Tally
from crossfade.judge.tests_of import ErrorLimit, ErrorRatio, SlowLimit, SlowRatio, Test

_PRIOR = 0.5
_HALVINGS = 20
"""Then the rest is as good as straight: edges are off by less than a ten-thousandth of themselves."""


@dataclass(frozen=True)
class Range:
    """Rates that the counts do not exclude, however often one looked; 0..1."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.3g}% to {100 * self.high:.3g}%"


def tallied(tests: tuple[Test, ...], baseline: Baseline, state: JudgeState, intervals: Sequence[Interval]) -> dict[str, object]:
    """The new values of the fields of `JudgeState` that are for people, after these further intervals of the step."""
    target, source = dict(state.seen_target), dict(state.seen_source)
    for measure in sorted({test.measure for test in tests if isinstance(test, (SlowLimit, SlowRatio))}):
        target[measure] = thinned(sum_of(target.get(measure, ()), *(interval.target.histogram(measure) for interval in intervals)))
        source[measure] = thinned(sum_of(source.get(measure, ()), *(interval.source.histogram(measure) for interval in intervals)))
    first = {test.gate: test for test in reversed(tests)}  # an absolute limit before a ratio: it has a bound of its own
    tallies = {gate: _tally(test, baseline, state, intervals, target, source) for gate, test in first.items()}
    return {"tallies": tallies, "seen_target": target, "seen_source": source}


def _tally(  # noqa: PLR0917
    test: Test,
    baseline: Baseline,
    state: JudgeState,
    intervals: Sequence[Interval],
    target: Mapping[str, Histogram],
    source: Mapping[str, Histogram],
) -> Tally:
    if isinstance(test, (ErrorLimit, ErrorRatio)):
        before = state.tallies.get(test.gate, Tally())
        return Tally(
            target=before.target + sum(interval.target.requests for interval in intervals),
            target_bad=before.target_bad + sum(interval.target.errors for interval in intervals),
            source=before.source + sum(interval.source.requests for interval in intervals),
            source_bad=before.source_bad + sum(interval.source.errors for interval in intervals),
        )
    ours, theirs = target.get(test.measure, ()), source.get(test.measure, ())
    known = state.source_ttft if test.measure == "ttft" else state.source_duration
    known = known or (baseline.ttft if test.measure == "ttft" else baseline.duration)
    bound_ms = test.limit_ms if isinstance(test, SlowLimit) else percentile_bound(known, 1 - test.tail)
    return Tally(
        target=total(ours),
        target_bad=slower_than(ours, bound_ms).at_most,
        source=total(theirs),
        source_bad=slower_than(theirs, bound_ms).at_most,
    )


def confidence_sequence(bad: int, requests: int, alpha: float) -> Range:
    """Rates a beta-binomial mixture does not reject at `alpha` at any time (Robbins 1970; Howard et al. 2021)."""
    if requests == 0:
        return Range(0.0, 1.0)
    well = requests - bad
    mixture = lgamma(_PRIOR + bad) + lgamma(_PRIOR + well) - lgamma(2 * _PRIOR + requests) - _log_beta()
    enough = -log(alpha)

    def excess(rate: float) -> float:
        """Evidence against a rate beyond what excludes it."""
        return mixture - (bad * log(rate) + well * log1p(-rate)) - enough

    middle = min(max(bad / requests, 1e-12), 1 - 1e-12)
    return Range(_edge(middle, 1e-12, excess), _edge(middle, 1 - 1e-12, excess))


def _log_beta() -> float:
    return 2 * lgamma(_PRIOR) - lgamma(2 * _PRIOR)


def _edge(inside: float, outside: float, excess: Callable[[float], float]) -> float:
    """Where exclusion begins on the way from `inside` to `outside`."""
    if excess(outside) < 0:
        return round(outside)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excess(middle) >= 0 else (middle, outside)
    below, over = excess(inside), excess(outside)
    return outside if below >= over else inside + (outside - inside) * min(max(-below / (over - below), 0.0), 1.0)
