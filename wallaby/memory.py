"""Memory for what is about to be written: where the arrays and buffers of the data path come from.

Memory is handed out as the last user left it, because clearing it would cost as much as filling it. A byte that is read
before it is written is then right for as long as that memory happens to be clean, and a wrong value, once, when it is
not: nothing to be found by running the same test again. So there is one place to take such memory from, and it can be
poisoned: under `POISON` every byte is filled first, and what is read too early is the poison, every time. Tests decode
the same bytes under different poisons and compare all a reader may read.

Kernels take no memory; they are given theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_Item = TypeVar("_Item", bound=np.generic)

Poison = Callable[[npt.NDArray[np.uint8]], None]
"""Writes every byte it is given."""

POISON: Final[ContextVar[Poison | None]] = ContextVar("wallaby_poison", default=None)
"""Set by tests, for the thread that sets it; None: memory comes as it is."""


def unwritten(count: int, kind: type[_Item] | np.dtype[_Item]) -> npt.NDArray[_Item]:
    """An array of ``count`` items nobody has written yet: whatever is read must be written first."""
    items = np.empty(count, kind)
    if (poison := POISON.get()) is not None:
        poison(items.view(np.uint8))
    return items


def unwritten_buffer(size: int) -> pa.Buffer:
    """A mutable Arrow buffer of ``size`` bytes nobody has written yet."""
    buffer = pa.allocate_buffer(size)
    if size and (poison := POISON.get()) is not None:
        poison(np.frombuffer(buffer, np.uint8))
    return buffer
