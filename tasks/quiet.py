"""Prefect tasks as Crossfade uses them: the error's class decides about retries, and a refusal is a message, not a traceback.

A `PermanentError` ends the task run as Failed with the error's message, so that the UI and the log show one sentence. The
caller gets the very same exception. (A task that merely returned a Failed state would let its flow go on.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed

from crossfade.errors import PermanentError, TemporaryError

P = ParamSpec("P")
R = TypeVar("R")


def worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: only the error's class decides; what is not of our tree is a bug and not retried."""
    return isinstance(state.data, TemporaryError) or _raises_temporary(state)


def quiet_task(
    name: str, *, retries: int = 2, retry_delay_s: float = 2.0, timeout: timedelta = timedelta(hours=1)
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a task of a function. `name` may hold its parameters in braces."""

    def wrap(body: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(body)
        def run(*args: P.args, **kwargs: P.kwargs) -> R | State[R]:
            try:
                return body(*args, **kwargs)
            except PermanentError as error:
                return Failed(message=str(error), data=error)

        decorate = task(
            name=name.split(" {", maxsplit=1)[0],
            task_run_name=name,
            retries=retries,
            retry_delay_seconds=retry_delay_s,
            retry_condition_fn=worth_retrying,
            timeout_seconds=timeout.total_seconds(),
            persist_result=False,
        )
        as_task = decorate(run)

        @functools.wraps(body)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            ended = cast(State[R], cast(Any, as_task)(*args, **kwargs, return_state=True))
            return ended.result()

        return call

    return wrap


def _raises_temporary(state: State[Any]) -> bool:
    try:
        state.result(raise_on_failure=True)
    except TemporaryError:
        return True
    except Exception:
        return False
    return False
