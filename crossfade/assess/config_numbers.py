"""Whole numbers out of a configuration whose authors gave them different names."""

from __future__ import annotations

from collections.abc import Mapping


def number(text: Mapping[str, object], *names: str) -> int:
    """The first of `names` that holds a whole number above 0; 0 when none does."""
    for name in names:
        value = text.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
