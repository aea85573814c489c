"""The suite: prompts, and the right answer where there is one.

A suite is JSONL, one case a line: `{"prompt": "What is 4+6?", "answer": "10", "task": "add"}`. Only `prompt` is required.
Fields Crossfade does not know are left alone, because suites are often exports of other tools.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from crossfade.errors import PlanInvalid

DEFAULT_TASK = "all"
"""Task of a case that names none."""


@dataclass(frozen=True)
class Case:
    """One prompt. `answer` is the text that counts as right; None where only the two engines are compared."""

    prompt: str
    answer: str | None = None
    task: str = DEFAULT_TASK


def load_suite(text: str, origin: str) -> tuple[Case, ...]:
    """The cases in `text`, in its order; `origin` is how messages name the file.

    Blank lines are skipped. Raises PlanInvalid, naming file and line of every bad case, and for a suite without a case.
    """
    cases: list[Case] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cases.append(_case(line))
        except ValueError as error:
            problems.append(f"{origin}:{number}: {error}")
    if problems:
        raise PlanInvalid("\n".join(problems))
    if not cases:
        raise PlanInvalid(f'{origin}:1: the suite has no case. Write one JSON object a line: {{"prompt": "...", "answer": "..."}}.')
    return tuple(cases)


def _case(line: str) -> Case:
    try:
        written = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} at column {error.colno}. Each line holds one whole JSON object.") from None
    if not isinstance(written, dict):
        raise ValueError('a case is a JSON object, like {"prompt": "What is 4+6?", "answer": "10"}')  # noqa: TRY004 - the user's text is wrong, not our types
    prompt, answer, task = written.get("prompt"), written.get("answer"), written.get("task", DEFAULT_TASK)
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("prompt: is required and must be text that is not empty")
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        raise ValueError("answer: must be text that is not empty; leave it out where no answer is the right one")
    if not isinstance(task, str) or not task:
        raise ValueError("task: must be text")
    return Case(prompt, answer, task)
