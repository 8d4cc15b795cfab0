"""A lane driven by a test: the calls of `wallaby.lane.Lane` without its decisions."""

from __future__ import annotations

from collections.abc import Iterable

from wallaby.lsn import Position
from wallaby.sink import Sink
from wallaby.window import CommitToken, LaneId, Receipt, Window


class TestLane:
    """Recovers on construction; every window commits unless told otherwise."""

    __test__ = False

    def __init__(self, sink: Sink, lane: LaneId, epoch: int = 1) -> None:
        self.sink = sink
        self.lane = lane
        self.epoch = epoch
        self.position = sink.recover(lane, epoch)
        self.writer = sink.writer(lane, epoch)

    def token(self, upto: Position, rows: int = 0) -> CommitToken:
        return CommitToken(self.lane, self.epoch, self.position, upto, rows)

    def write(self, window: Window) -> None:
        for part in window.parts:
            self.sink.ensure_table(part.schema)
        self.writer.write(window)

    def apply(self, window: Window, *, rows: int | None = None) -> Receipt:
        """Write and commit one window, or apply its barrier."""
        token = self.token(window.upto, window.rows if rows is None else rows)
        if window.barrier is not None:
            receipt = self.writer.apply_barrier(window.barrier, token)
        else:
            self.write(window)
            receipt = self.writer.commit(token)
        self.position = receipt.upto
        return receipt

    def apply_all(self, windows: Iterable[Window], *, commit_every: int = 1) -> None:
        """Windows in order, several to a commit; barriers alone."""
        pending = 0
        upto = self.position
        for window in windows:
            if window.barrier is not None:
                if pending:
                    self._commit(upto)
                self.apply(window)
                pending = 0
                continue
            self.write(window)
            upto, pending = window.upto, pending + 1
            if pending == commit_every:
                self._commit(upto)
                pending = 0
        if pending:
            self._commit(upto)

    def _commit(self, upto: Position) -> None:
        self.position = self.writer.commit(self.token(upto)).upto
