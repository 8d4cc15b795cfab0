"""Lanes and control store in the calling process: the relay without Ray, for tests that need every step in hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from wallaby.lane import Lane
from wallaby.lsn import Position
from wallaby.relay.ports import Checkpointed, Completion, CopyNoted, Delivered
from wallaby.snapshot.progress import TableCopy
from wallaby.window import LaneId, Window


class InProcessTransport:
    """A `wallaby.relay.ports.Transport` that runs each call at once, or when ``hold`` is lifted.

    ``checkpoint`` and ``note`` are the control store: they are called with (after, upto, lanes) and with the tables of
    a copy, and may raise. ``hold`` and ``release`` may come from another thread than the relay's.
    """

    def __init__(
        self,
        lanes: Mapping[LaneId, Lane],
        *,
        checkpoint: Callable[[Position, Position, Mapping[str, Position]], None] = lambda *_: None,
        note: Callable[[tuple[TableCopy, ...]], None] = lambda _: None,
    ) -> None:
        self._lanes = lanes
        self._store = checkpoint
        self._note = note
        self._lock = threading.RLock()
        self._done: list[Completion] = []
        self._held: dict[LaneId, list[tuple[Window, bool, int]]] = {}
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.published: list[Window] = []

    def hold(self, lane: LaneId) -> None:
        """From now on ``lane`` is slow: its calls wait for ``release``."""
        with self._lock:
            self._held[lane] = []

    def release(self, lane: LaneId) -> None:
        """Run what waited, in order."""
        with self._lock:
            for window, commit, committed_at_us in self._held.pop(lane):
                self._run(lane, window, commit, committed_at_us)

    def release_all(self) -> None:
        """No lane is slow any more."""
        with self._lock:
            for lane in list(self._held):
                self.release(lane)

    def publish(self, window: Window) -> Any:
        self.published.append(window)
        return window

    def send(self, lane: LaneId, parcel: Any, *, nbytes: int, commit: bool, committed_at_us: int) -> None:
        with self._lock:
            if lane in self._held:
                self._held[lane].append((parcel, commit, committed_at_us))
            else:
                self._run(lane, parcel, commit, committed_at_us)

    def checkpoint(self, after: Position, upto: Position, lanes: Mapping[str, Position]) -> None:
        try:
            self._store(after, upto, lanes)
        except Exception as error:  # noqa: BLE001 - a completion carries any error, as it would from another process
            self._finish(Checkpointed(upto, error))
        else:
            self._finish(Checkpointed(upto))

    def note_copy(self, tables: tuple[TableCopy, ...]) -> None:
        try:
            self._note(tables)
        except Exception as error:  # noqa: BLE001 - see checkpoint
            self._finish(CopyNoted(tables, error))
        else:
            self._finish(CopyNoted(tables))

    def completions(self) -> list[Completion]:
        with self._lock:
            done, self._done = self._done, []
            if done:
                os.read(self._reader, len(done))
            return done

    def fileno(self) -> int:
        return self._reader

    def close(self) -> None:
        """Close the wake-up pipe."""
        os.close(self._reader)
        os.close(self._writer)

    def _run(self, lane: LaneId, window: Window, commit: bool, committed_at_us: int) -> None:
        try:
            report = self._lanes[lane].write(window, commit=commit, committed_at_us=committed_at_us)
        except Exception as error:  # noqa: BLE001 - see checkpoint
            self._finish(Delivered(lane, window.nbytes, None, error))
        else:
            self._finish(Delivered(lane, window.nbytes, report))

    def _finish(self, completion: Completion) -> None:
        with self._lock:
            self._done.append(completion)
            os.write(self._writer, b"\0")
