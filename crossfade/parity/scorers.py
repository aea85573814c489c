"""How one answer is scored: small named functions, no state, no thresholds.

`SCORERS` maps the name a report carries to its function, so that a stored score can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping


def identical_text(source: str, target: str) -> bool:
    """Whether both engines wrote the same characters.

    Nothing is normalised: a space more is a difference, because clients parse it. Greedy answers of one engine may differ
    from each other under load (H23), so a rate of identical texts means nothing without the noise of the source itself.
    """
    return source == target


def exact_answer(answer: str, text: str) -> bool:
    """Whether `text` is `answer`, white space around it aside; `"10."` is not `"10"`."""
    return text.strip() == answer.strip()


def json_answer(answer: str, text: str) -> bool:
    """Whether `text` is JSON that means the same as `answer`: order of keys and spacing do not count, anything around it does.

    `1` and `1.0` are the same; `1` and `true` are not, although Python thinks so.
    """
    try:
        return json.dumps(_plain(json.loads(text)), sort_keys=True) == json.dumps(_plain(json.loads(answer)), sort_keys=True)
    except ValueError:
        return False


SCORERS: Mapping[str, Callable[[str, str], bool]] = {"exact": exact_answer, "json": json_answer}


def scorer_for(answer: str) -> str:
    """The name of the scorer an expected answer asks for: `json` for a JSON object or list, else `exact`."""
    try:
        return "json" if isinstance(json.loads(answer), dict | list) else "exact"
    except ValueError:
        return "exact"


def is_correct(answer: str, text: str) -> bool:
    """Whether `text` is right by the scorer its expected answer asks for."""
    return SCORERS[scorer_for(answer)](answer, text)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
