"""How long to wait before the next attempt. Pure: the supervisor waits, this counts."""

from __future__ import annotations

import random

from wallaby.settings import Limits


class Backoff:
    """Pauses that double from ``restart_delay_min_ms`` to ``restart_delay_max_ms``, each drawn from its whole range.

    Drawn, so that many flows behind one failed server do not come back in step; from a seed, so that a history can be
    repeated.
    """

    def __init__(self, limits: Limits, *, seed: str) -> None:
        self._limits = limits
        self._random = random.Random(seed)
        self._longest_ms = limits.restart_delay_min_ms

    def next_pause_ms(self) -> float:
        """The pause before the next attempt; the one after may be twice as long."""
        pause_ms = self._random.uniform(self._limits.restart_delay_min_ms, self._longest_ms)
        self._longest_ms = min(2 * self._longest_ms, self._limits.restart_delay_max_ms)
        return pause_ms

    def reset(self) -> None:
        """It went well: begin with short pauses again."""
        self._longest_ms = self._limits.restart_delay_min_ms
