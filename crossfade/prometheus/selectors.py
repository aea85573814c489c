"""The metrics a PromQL query names, without a parser: what is needed to tell a misspelt name from one without a sample."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      |(?P<comment>\#[^\n]*)
      |(?P<number>\d[\w.]*)
      |(?P<name>[A-Za-z_:][\w:]*)
      |(?P<compares>[<>]=?|[!=]=(?!~))
      |(?P<other>\S)""",
    re.VERBOSE,
)
_BEFORE_LABELS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_OPERATORS = frozenset({"and", "or", "unless", "offset", "bool", "start", "end", "inf", "nan", "atan2"})
_AGGREGATIONS = frozenset({"sum", "min", "max", "avg", "group", "stddev", "stdvar", "count", "count_values", "bottomk", "topk", "quantile"})
_WORDS = _BEFORE_LABELS | _OPERATORS | _AGGREGATIONS
_MATCHER = re.compile(r"""([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")


@dataclass(frozen=True)
class Selector:
    """One `name{label="value"}` in a query; `text` is how it was written."""

    name: str
    text: str

    def equalities(self) -> tuple[tuple[str, str], ...]:
        """Labels that must have one value."""
        return tuple((label, quoted[1:-1]) for label, sign, quoted in _MATCHER.findall(self.text) if sign == "=" and label != "__name__")


def selectors(promql: str) -> tuple[Selector, ...]:
    """Every selector of a query, in its order."""
    return tuple(dict.fromkeys(_selectors(promql)))


def compares(promql: str) -> bool:
    """Whether the query drops what is on the wrong side of a comparison, instead of saying 0 or 1."""
    return any(token["compares"] for token in _TOKEN.finditer(_without_matchers(promql))) and not re.search(r"\bbool\b", promql)


def _selectors(promql: str) -> Iterator[Selector]:
    tokens = [token for token in _TOKEN.finditer(promql) if not token["comment"]]
    index = 0
    while index < len(tokens):
        token, following = tokens[index], tokens[index + 1][0] if index + 1 < len(tokens) else ""
        name = token["name"] or ""
        index += 1
        if name.lower() in _BEFORE_LABELS and following == "(":
            index = _past(tokens, index, ")")
        elif token[0] == "{" or (name and following == "{"):
            end = _past(tokens, index, "}")
            yield Selector(name or _named_inside(promql, token.start()), promql[token.start() : tokens[end - 1].end()])
            index = end
        elif name and following != "(" and name.lower() not in _WORDS:
            yield Selector(name, name)
        elif token[0] == "[":
            index = _past(tokens, index, "]")  # durations


def _past(tokens: list[re.Match[str]], index: int, closing: str) -> int:
    while index < len(tokens) and tokens[index][0] != closing:
        index += 1
    return min(index + 1, len(tokens))


def _named_inside(promql: str, start: int) -> str:
    match = re.match(r"""\{\s*__name__\s*=\s*["']([^"']+)["']""", promql[start:])
    return match[1] if match else ""


def _without_matchers(promql: str) -> str:
    for selector in _selectors(promql):
        promql = promql.replace(selector.text, "x")
    return promql
