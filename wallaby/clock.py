"""Time as an argument: monotonic milliseconds for intervals, wall microseconds for lag."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Both readings a stage may need."""

    def now_ms(self) -> int:
        """Monotonic milliseconds; only differences mean anything."""
        ...

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_us(self) -> int:
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ms: int = 0, wall_us: int = 0) -> None:
        self._now_ms = now_ms
        self._wall_us = wall_us

    def advance(self, milliseconds: int) -> None:
        """Move both readings forward."""
        self._now_ms += milliseconds
        self._wall_us += milliseconds * 1_000

    def now_ms(self) -> int:
        return self._now_ms

    def wall_us(self) -> int:
        return self._wall_us
