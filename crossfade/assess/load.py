"""What traffic asks of the memory: how many requests are under way at once, and how many tokens they hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

MARGIN = 1.3
"""Above the mean: arrivals come in bursts, and a full cache throws requests out and begins them again."""


_SAID = {"measured": "the most in five minutes of a week at the router", "planned": "planned"}


@dataclass(frozen=True)
class Load:
    """The busiest time, its requests at once measured at the router or written in the plan.

    `requests_per_s` is its peak rate, `seconds` how long a request takes on average, `prompt_tokens` and `output_tokens` its mean
    lengths. `longest_tokens` is prompt and output together of all but one request in a thousand. `at_once`, where it was counted,
    replaces the product of rate and time.
    """

    prompt_tokens: float
    output_tokens: float
    requests_per_s: float = 0.0
    seconds: float = 0.0
    longest_tokens: int | None = None
    at_once: float | None = None
    source: Literal["measured", "planned"] = "measured"

    @property
    def concurrency(self) -> float:
        """Requests under way at once, by Little's law: rate times time; at least one."""
        return max(1.0, self.at_once if self.at_once is not None else self.requests_per_s * self.seconds)

    @property
    def mean_tokens(self) -> int:
        """Tokens a request holds at its end."""
        return ceil(self.prompt_tokens + self.output_tokens)

    @property
    def needed_tokens(self) -> int:
        """Tokens the cache must hold, the margin included."""
        return ceil(self.concurrency * (self.prompt_tokens + self.output_tokens) * MARGIN)

    def why(self) -> str:
        """The concurrency as a sum a person can check."""
        if self.at_once is not None:
            return f"{self.at_once:g} requests at once, {_SAID[self.source]}"
        return f"{self.requests_per_s:g} requests/s x {self.seconds:g} s each, {self.source} (Little's law)"
