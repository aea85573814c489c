"""What the clients saw: the file the load writes every second and others read while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from crossfade.errors import PermanentError

Kind = Literal["openai", "openai-stream", "ollama", "ollama-stream"]
"""Which official client asked, and whether it asked for a stream."""

KINDS: tuple[Kind, ...] = ("openai", "openai-stream", "ollama", "ollama-stream")

ErrorKind = Literal["status", "connection", "timeout", "cut", "empty", "other"]
"""`status`: an HTTP error. `connection`: refused, or closed before an answer. `cut`: an answer that began and did not end as
its protocol says. `empty`: a complete answer without text. `other`: the client library could not read the answer."""


class Failure(BaseModel):
    """A request whose user got no whole answer. `at_s` is when it was sent, seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    at_s: float
    kind: Kind
    error: ErrorKind
    text: str
    ms: float

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_s, UTC)
        return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}Z {self.kind} {self.error} after {self.ms:.0f} ms: {self.text}"


class Latencies(BaseModel):
    """Percentiles of `n` answered requests in milliseconds; None without data. `ttft` counts streamed requests only."""

    model_config = ConfigDict(frozen=True)

    n: int = 0
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    total_p50_ms: float | None = None
    total_p95_ms: float | None = None


class KindReport(BaseModel):
    """The numbers of one kind of client; `recent` covers the last 30 s."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    requests: int
    answered: int
    failed: int
    wrong: int
    overall: Latencies
    recent: Latencies


class ClientReport(BaseModel):
    """Everything users would have seen. `requests` = `answered` + `failed` + `abandoned` + `in_flight`, at every moment.

    `saturated` are requests that were due and not sent, because too many were under way: no user's request was lost, but the
    load was lighter than asked. `abandoned` were still under way when the load had to end. `wrong` are complete
    answers that are not the suite's; they are not errors. `failures` holds every failed request, oldest first.
    """

    model_config = ConfigDict(frozen=True)

    started_s: float = 0.0
    updated_s: float = 0.0
    finished: bool = False
    rps: float = 0.0
    requests: int = 0
    answered: int = 0
    failed: int = 0
    abandoned: int = 0
    in_flight: int = 0
    saturated: int = 0
    wrong: int = 0
    errors: Mapping[ErrorKind, int] = {}
    overall: Latencies = Latencies()
    recent: Latencies = Latencies()
    kinds: tuple[KindReport, ...] = ()
    failures: tuple[Failure, ...] = ()


def write_report(report: ClientReport, path: Path) -> None:
    """Replace `path` at once; a reader sees the old report or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(report.model_dump_json(indent=1), encoding="utf-8")
    temporary.replace(path)


def load_report(path: Path) -> ClientReport:
    """The newest report; an empty one before the first was written. Raises PermanentError for a file that is no report."""
    try:
        return ClientReport.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ClientReport()
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a report of this version"
        raise PermanentError(f"{path}: cannot read the clients' report: {reason}. Start the clients again.") from None
