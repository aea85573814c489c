"""The one number an instant query must give, or what to write instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from crossfade.prometheus.increase import Nonsense

_LABELS_SHOWN = 3


class NoData(Nonsense):
    """The query found nothing; whether it ever can is another question."""


def one_number(result: object) -> float:
    """The value of a scalar or of a vector with one element; raises NoData or Nonsense with what to write instead."""
    match result:
        case []:
            raise NoData("the query found no data; is that metric scraped, and does every part of the query exist?")
        case [{"value": [_, str(text)]}] | [int() | float(), str(text)]:
            return _finite(text)
        case [{"value": _}, *_]:
            raise Nonsense(
                f"the query gives {len(result)} values where one number is needed{_differing(result)}; wrap it in max(), sum() or avg()"
            )
        case [{"values": _}, *_]:
            raise Nonsense("the query gives a range; apply a function such as max_over_time()")
    raise Nonsense("the query gives no number")


def _differing(result: Sequence[object]) -> str:
    """Which labels tell the values apart."""
    metrics = [metric for one in result if isinstance(one, Mapping) and isinstance(metric := one.get("metric"), Mapping)]
    names = sorted({str(name) for metric in metrics for name in metric})
    differing = [name for name in names if len({metric.get(name) for metric in metrics}) > 1][:_LABELS_SHOWN]
    return f" (they differ in {', '.join(differing)})" if differing else ""


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Nonsense(f"the query gives {text[:40]!r}, which is no number") from None
    if math.isfinite(value):
        return value
    raise Nonsense(
        f"the query gives {text}; a division by zero, or no traffic to divide by. Write `a / (b > 0)` to hold without traffic, "
        "or `(a / (b > 0)) or vector(0)` to call it 0"
    )
