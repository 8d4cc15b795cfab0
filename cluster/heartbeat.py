"""Which process no longer answers. Pure: the supervisor asks, this counts."""

from __future__ import annotations


class Heartbeat:
    """Unanswered questions in a row, process by process: one that answers says nothing about its neighbour."""

    def __init__(self, misses_max: int) -> None:
        self._misses_max = misses_max
        self._misses: dict[str, int] = {}

    def note(self, process: str, *, has_answered: bool) -> None:
        """The outcome of one question."""
        if has_answered:
            self._misses.pop(process, None)
        else:
            self._misses[process] = self._misses.get(process, 0) + 1

    @property
    def lost(self) -> str | None:
        """A process that missed more than ``misses_max`` questions in a row; None while there is none."""
        return next((process for process, misses in self._misses.items() if misses > self._misses_max), None)
