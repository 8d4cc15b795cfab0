"""Advice for a name nobody knows: the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'dsn'?`` for the closest known name, else the list of the known ones."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known are: {', '.join(choices)}" if choices else ""
