"""The lab's users: a small open-loop load by the official clients, through the router only.

    python -m crossfade.lab.clients --base http://127.0.0.1:11434 --model lab:latest --suite eval.jsonl --rps 12 --report FILE.json

Requests leave at a fixed rate whether or not earlier ones were answered, so that a slow engine is felt and not spared. Four
fifths speak `/v1`, one fifth Ollama's own API, half of each streamed. What it saw is in the report (`client_report`), rewritten
every second. SIGTERM or Ctrl-C ends it: nothing more is sent, requests under way may finish, the last report says `finished`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crossfade.errors import CrossfadeError, UserError
from crossfade.lab.client_ask import Clients, Exchange, error_kind, error_text
from crossfade.lab.client_report import ClientReport, Failure, Kind, load_report, write_report
from crossfade.lab.client_tally import Answered, Tally
from crossfade.parity.cases import Case, load_suite
from crossfade.parity.scorers import is_correct

__all__ = ["ClientReport", "Load", "load_report", "main", "send_load"]

Item = TypeVar("Item")

MIX: tuple[Kind, ...] = ("openai",) * 4 + ("openai-stream",) * 4 + ("ollama", "ollama-stream")
"""Ten requests; only `/v1` is ramped for now, so most of the load goes there."""


@dataclass(frozen=True)
class Load:
    """What to send. `grace_s` is how long requests under way may take after the end; `seconds` None runs until a signal."""

    base: str
    model: str
    cases: tuple[Case, ...]
    report: Path
    rps: float = 12.0
    seconds: float | None = None
    max_in_flight: int = 64
    timeout_s: float = 30.0
    grace_s: float = 10.0
    seed: int = 7


class Users:
    """Sends the load and counts what comes back."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._clients = Clients(load.base, load.model, timeout_s=load.timeout_s)
        self._tally = Tally(started_s=time.time(), rps=load.rps)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set or the time is over, then finish and write the last report."""
        writer = asyncio.create_task(self._write_every_second())
        try:
            await self._send_until(stop)
            await self._finish()
        finally:
            writer.cancel()
            self._write(finished=True)
            await self._clients.close()

    async def _send_until(self, stop: asyncio.Event) -> None:
        began_s = time.monotonic()
        for number, (kind, case) in enumerate(_requests(self._load.cases, self._load.seed)):
            due_s = number / self._load.rps
            if self._load.seconds is not None and due_s >= self._load.seconds:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), timeout=max(0.0, began_s + due_s - time.monotonic()))
            if stop.is_set():
                return
            if len(self._under_way) >= self._load.max_in_flight:
                self._tally.saturated()
                continue
            self._tally.sent(kind)
            task = asyncio.create_task(self._ask(kind, case))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _finish(self) -> None:
        if not self._under_way:
            return
        _, left = await asyncio.wait(self._under_way, timeout=self._load.grace_s)
        self._tally.abandoned(len(left))
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _ask(self, kind: Kind, case: Case) -> None:
        at_s, exchange = time.time(), Exchange(kind, case.prompt, sent_s=time.monotonic())
        try:
            async with asyncio.timeout(self._load.timeout_s):
                text = await self._clients.ask(exchange)
        # every way a library can fail is a failed request; nothing here may end the load
        except Exception as error:
            ms = round((time.monotonic() - exchange.sent_s) * 1000, 1)
            self._tally.failed(Failure(at_s=at_s, kind=kind, error=error_kind(error, exchange), text=error_text(error), ms=ms))
            return
        total_ms = (time.monotonic() - exchange.sent_s) * 1000
        wrong = case.answer is not None and not is_correct(case.answer, text)
        self._tally.answered(kind, Answered(done_s=time.time(), total_ms=total_ms, ttft_ms=exchange.ttft_ms, wrong=wrong))

    async def _write_every_second(self) -> None:
        while True:
            self._write(finished=False)
            await asyncio.sleep(1)

    def _write(self, *, finished: bool) -> None:
        write_report(self._tally.report(now_s=time.time(), finished=finished), self._load.report)


def _requests(cases: Sequence[Case], seed: int) -> Iterator[tuple[Kind, Case]]:
    """The same endless row of requests for the same seed: each ten hold the whole mix, each round the whole suite."""
    order = random.Random(seed)  # noqa: S311 - a repeatable load, no secret
    return zip(_rounds(MIX, order), _rounds(cases, random.Random(order.random())), strict=False)  # noqa: S311


def _rounds(items: Sequence[Item], order: random.Random) -> Iterator[Item]:
    return itertools.chain.from_iterable(order.sample(items, len(items)) for _ in itertools.count())


async def send_load(load: Load) -> None:
    """Run the load until SIGTERM, SIGINT or its time is over."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Users(load).run(stop)


def read_load(arguments: Sequence[str]) -> Load:
    """The load the command line asks for. Raises UserError."""
    parser = argparse.ArgumentParser(prog="python -m crossfade.lab.clients", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", required=True, help="address of the router, like http://127.0.0.1:11434")
    parser.add_argument("--model", required=True, help="the name clients write, like lab:latest")
    parser.add_argument("--suite", required=True, type=Path, help="JSONL with prompt and answer")
    parser.add_argument("--report", required=True, type=Path, help="file to keep rewriting with what was seen")
    parser.add_argument("--rps", type=float, default=Load.rps, help="requests per second")
    parser.add_argument("--seconds", type=float, default=None, help="end after so many seconds instead of at a signal")
    parser.add_argument("--max-in-flight", type=int, default=Load.max_in_flight)
    parser.add_argument("--timeout", type=float, default=Load.timeout_s, help="seconds after which a user would give up")
    parser.add_argument("--seed", type=int, default=Load.seed)
    asked = parser.parse_args(arguments)
    if asked.rps <= 0 or asked.max_in_flight < 1 or asked.timeout <= 0:
        raise UserError("--rps, --max-in-flight and --timeout must be above zero")
    try:
        text = asked.suite.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{asked.suite}: cannot read the suite: {error}. Check the path.") from None
    return Load(
        base=asked.base.rstrip("/"),
        model=asked.model,
        cases=load_suite(text, str(asked.suite)),
        report=asked.report,
        rps=asked.rps,
        seconds=asked.seconds,
        max_in_flight=asked.max_in_flight,
        timeout_s=asked.timeout,
        seed=asked.seed,
    )


def main() -> int:
    """Entry of `python -m crossfade.lab.clients`; returns the exit code."""
    try:
        asyncio.run(send_load(read_load(sys.argv[1:])))
    except CrossfadeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
