"""Whose turn it is at a connection: a lock given in the order it was asked for.

`threading.RLock` goes to whoever is quickest, and that is mostly the thread that has just released it: the API's, with
a burst of changes before it, could keep a flow's commit waiting for all of them. Here the commit waits for the
transaction under way and for those that asked before it, and each thread asks for one at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A fair lock; a thread that has it gets it again."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._asking: deque[tuple[int, threading.Event]] = deque()

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the turn."""
        return self._owner == threading.get_ident()

    @property
    def asking(self) -> int:
        """Threads that wait."""
        return len(self._asking)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for our turn, and have it until the block ends."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def _take(self) -> None:
        me = threading.get_ident()
        with self._mutex:
            if self._owner in (None, me):
                self._owner = me
                self._depth += 1
                return
            given = threading.Event()
            self._asking.append((me, given))
        try:
            given.wait()
        except BaseException:
            # An exception of a signal's handler may end the wait, before the turn came or just after.
            with self._mutex:
                if not given.is_set():
                    self._asking.remove((me, given))
                    raise
            self._give()
            raise

    def _give(self) -> None:
        with self._mutex:
            self._depth -= 1
            if self._depth:
                return
            if not self._asking:
                self._owner = None
                return
            self._owner, given = self._asking.popleft()
            self._depth = 1
            given.set()
