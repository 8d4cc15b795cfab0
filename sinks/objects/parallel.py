"""Requests side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sinks.objects.store import UPLOADS_MAX

_Item = TypeVar("_Item")


def each(do: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    """``do`` every item, `UPLOADS_MAX` at once. The first error is raised once those under way have ended."""
    with ThreadPoolExecutor(UPLOADS_MAX) as threads:
        for _ in threads.map(do, items):
            pass


__all__ = ["each"]
