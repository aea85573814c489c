"""Units as people write them, parsed once at the edge.

| written | type here | value |
|---|---|---|
| `90s`, `500ms`, `2h`, `1h30m`, `0` | `Seconds` | float seconds |
| `500ms`, `1.5s` | `Milliseconds` | float milliseconds |
| `5%` | `ShareBp` | 500 basis points, an `int` in 0..10000 |
| `1%` | `Fraction` | 0.01 |
| `1.3x` | `Times` | 1.3 |
| `2GiB`, `500MB` | `Bytes` | int bytes |

Bare numbers are refused where their unit could be guessed wrongly: `ttft: 500` means nothing until it says `ms`.
Values that are already numbers of the target unit are not accepted from a plan, only strings and zero.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_seconds(text: object) -> float:
    """Seconds of `90s`, `500ms`, `1h30m`; zero may be written bare."""
    if _is_zero(text):
        return 0.0
    if isinstance(text, str):
        compact = text.replace(" ", "")
        parts = _DURATION.findall(compact)
        if parts and "".join(number + unit for number, unit in parts) == compact:
            return round(sum(float(number) * _DURATION_S[unit] for number, unit in parts), 9)
    raise ValueError(f"{text!r} is not a duration; write it with its unit, like 500ms, 30s, 2h or 1h30m")


def format_seconds(seconds: float) -> str:
    """The shortest exact way to write `seconds` that `parse_seconds` reads back."""
    if seconds == 0:
        return "0s"
    if seconds < 1:
        return f"{_decimal(seconds * 1000)}ms"
    rest, text = seconds, ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        count, rest = divmod(rest, size)
        text += f"{int(count)}{unit}" if count else ""
    rest = round(rest, 9)
    return text + (f"{_decimal(rest)}s" if rest else "")


def at_least(shortest_s: float) -> AfterValidator:
    """A lower limit for a field of `Seconds`, where a shorter time could not work."""

    def check(seconds: float) -> float:
        if seconds < shortest_s:
            raise ValueError(f"{format_seconds(seconds)} is too short to work; write at least {format_seconds(shortest_s)}")
        return seconds

    return AfterValidator(check)


def parse_milliseconds(text: object) -> float:
    """Milliseconds of a duration such as `500ms` or `1.5s`."""
    return round(parse_seconds(text) * 1000, 6)


def parse_fraction(text: object) -> float:
    """0.01 of `1%`; zero may be written bare."""
    if _is_zero(text):
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a percentage; write it like 1% or 0.5%")
    value = round(float(match[1]) / 100, 12)
    if value > 1:
        raise ValueError(f"{text!r} is above 100%")
    return value


def parse_share_bp(text: object) -> int:
    """Basis points of a share such as `5%` or `0.25%`; finer than 0.01% is refused, since the router cannot express it."""
    basis_points = parse_fraction(text) * 10_000
    if abs(basis_points - round(basis_points)) > 1e-9:
        raise ValueError(f"{text!r} is finer than 0.01%, the smallest share the router can express")
    return round(basis_points)


def format_share(share_bp: int) -> str:
    """`500` as `5%`."""
    return f"{share_bp / 100:g}%"


def parse_times(text: object) -> float:
    """1.3 of `1.3x`; factors below 1 are refused because they would ask the target to beat the source."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*x", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a factor; write it like 1.3x")
    value = float(match[1])
    if value < 1:
        raise ValueError(f"{text!r} would demand a target better than the source; the smallest factor is 1x")
    return value


def parse_bytes(text: object) -> int:
    """Bytes of `2GiB` (1024-based) or `500MB` (1000-based)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*((?:[KMGT]i?)?B)", text, re.IGNORECASE) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a size; write it like 2GiB or 500MB")
    return int(float(match[1]) * _BYTES[match[2].upper()])


def format_bytes(size_bytes: int) -> str:
    """`2147483648` as `2GiB`: the largest 1024-based unit that says it exactly."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes and size_bytes % size == 0:
            return f"{size_bytes // size}{unit}"
    return f"{size_bytes}B"


def _decimal(number: float) -> str:
    """`number` with as many places as it needs, at most ten, and never as `1e-06`."""
    return f"{number:.10f}".rstrip("0").rstrip(".")


def _is_zero(written: object) -> bool:
    """Whether a bare zero was written, which needs no unit; YAML's `no` is False and is not meant."""
    return written in (0, "0") and not isinstance(written, bool)


Seconds = Annotated[float, BeforeValidator(parse_seconds, json_schema_input_type=str), PlainSerializer(format_seconds, return_type=str)]
Milliseconds = Annotated[
    float,
    BeforeValidator(parse_milliseconds, json_schema_input_type=str),
    PlainSerializer(lambda ms: format_seconds(ms / 1000), return_type=str),
]
Fraction = Annotated[
    float,
    BeforeValidator(parse_fraction, json_schema_input_type=str),
    PlainSerializer(lambda value: f"{_decimal(value * 100)}%", return_type=str),
]
ShareBp = Annotated[int, BeforeValidator(parse_share_bp, json_schema_input_type=str), PlainSerializer(format_share, return_type=str)]
Times = Annotated[
    float,
    BeforeValidator(parse_times, json_schema_input_type=str),
    PlainSerializer(lambda value: f"{_decimal(value)}x", return_type=str),
]
Bytes = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=str), PlainSerializer(format_bytes, return_type=str)]
