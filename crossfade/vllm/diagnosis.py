"""Why a vLLM server died: its log's tail and exit code in, one diagnosis out. Pure; the rows are in `signatures`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crossfade.vllm.signatures import SIGNATURES, Category, Retry, Signature

_PREFIX = re.compile(r"^\(\w+(?: pid=\d+)?\)\s*(?:[A-Z]+ \d\d-\d\d [\d:]+ \[[^\]]*\]\s?)?")
_CHATTER = re.compile(r"^\(\w+(?: pid=\d+)?\) (?:DEBUG|INFO|WARNING) ")
_ERROR_LINE = re.compile(r"^(?:[\w.]+(?:Error|Exception|Interrupt|Exit)\b|.*\berror: |Value error, )")
_WRAPPER = re.compile(r"Engine core initialization failed|\d+ validation errors? for ")
_DETAIL_LIMIT = 300  # characters; vLLM lists every architecture it knows in one line


@dataclass(frozen=True)
class Diagnosis:
    """What happened (`summary`), the log line that shows it (`detail`), and what to do (`resolution`)."""

    category: Category
    summary: str
    detail: str
    resolution: str
    retry: Retry


def diagnose(log_tail: str, exit_code: int | None = None) -> Diagnosis:
    """The most specific diagnosis. Give at least the last 400 lines: vLLM's last one is only a wrapper around the cause above it.

    `exit_code` is negative for a signal, and None where it cannot be known because another process started the server.
    """
    lines = [_PREFIX.sub("", line).strip() for line in log_tail.splitlines() if not _CHATTER.match(line)]
    for row in SIGNATURES:
        for pattern in row.patterns:
            if line := next((line for line in reversed(lines) if re.search(pattern, line)), ""):
                return _diagnosis(row, line)
    for row in SIGNATURES:
        if exit_code in row.exit_codes:
            return _diagnosis(row, f"exit code {exit_code}")
    return Diagnosis(
        Category.UNKNOWN,
        "vLLM ended and its log shows no known cause",
        _last_error(lines) or f"exit code {'unknown' if exit_code is None else exit_code}",
        "Read the log; search vLLM's issues for the line above.",
        Retry.NO,
    )


def _diagnosis(row: Signature, line: str) -> Diagnosis:
    return Diagnosis(row.category, row.summary, _clip(line), row.resolution, row.retry)


def _last_error(lines: list[str]) -> str:
    """The newest line that names an error itself, not an error about another error."""
    errors = (line for line in reversed(lines) if _ERROR_LINE.match(line) and not _WRAPPER.search(line))
    return _clip(next(errors, "")) or _clip(next((line for line in reversed(lines) if line), ""))


def _clip(line: str) -> str:
    return line if len(line) <= _DETAIL_LIMIT else line[: _DETAIL_LIMIT - 3] + "..."
