"""Requests side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sinks.objects.store import UPLOADS_MAX

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def each(do: Callable[[_Item], _Answer], items: Iterable[_Item]) -> Sequence[tuple[_Item, _Answer]]:
    """``do`` every item, `UPLOADS_MAX` at once: the items with their answers, in order.

    The first error is raised once those under way have ended.
    """
    wanted = tuple(items)
    with ThreadPoolExecutor(UPLOADS_MAX) as threads:
        return tuple(zip(wanted, threads.map(do, wanted), strict=True))


__all__ = ["each"]
