"""Tell people through Prefect's own notification blocks. Telling is never in the way of acting: what fails is logged."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from typing import cast

from prefect import get_run_logger, task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client

from crossfade.errors import UserError
from crossfade.rollout.state import Attempt
from crossfade.wiring import open_bench


@task(name="notify", persist_result=False)
def notify(blocks: Iterable[str], subject: str, body: str) -> list[str]:
    """Send to each block, named `type/name` or by a unique name; returns the names that took it."""
    told = []
    for name in blocks:
        try:
            _send(_load(name), subject, body)
            told.append(name)
        except Exception as error:  # a chat that is down must not fail a rollback
            get_run_logger().warning("nobody was told through %r: %s: %s", name, type(error).__name__, error)
    return told


def ask_a_person(attempt: Attempt, told: str) -> None:
    """Send what a tick wants a person to hear to the blocks in `notify:` of its plan; nothing where it wants nothing."""
    blocks = open_bench(attempt.migration).plan.notify if told else ()
    if blocks:
        notify(blocks, f"Crossfade: {attempt.migration} needs a person", f"{attempt}: {told}")


def _send(block: NotificationBlock, subject: str, body: str) -> None:
    """The blocks' methods are coroutines to the type checker and, called outside an event loop, mostly are not."""
    sent = cast(object, block.notify(body, subject))
    if inspect.iscoroutine(sent):
        asyncio.run(sent)


def _load(name: str) -> NotificationBlock:
    return cast(NotificationBlock, Block.load(name if "/" in name else f"{_type_of(name)}/{name}"))


def _type_of(name: str) -> str:
    with get_client(sync_client=True) as client:
        found = {document.block_type_name or "": document for document in client.read_block_documents() if document.name == name}
    slugs = [document.block_type.slug for document in found.values() if document.block_type]
    if len(slugs) != 1:
        raise UserError(f"{len(slugs)} blocks are called {name!r}; make one in the Prefect UI, or write it as type/name in notify:")
    return slugs[0]
