"""The blackhole destination's writer: reads what it is given, so that its cost is measured, and drops it."""

from __future__ import annotations

from wallaby.errors import Superseded
from wallaby.lsn import START, Position
from wallaby.window import Barrier, CommitToken, LaneId, Receipt, Window


class BlackholeWriter:
    """Opens every batch (zero-copy) and counts its rows."""

    def __init__(self, lane: LaneId) -> None:
        self._lane = lane
        self._position: Position = START
        self.rows = 0

    def write(self, window: Window) -> None:
        for part in window.parts:
            self.rows += sum(batch.num_rows for batch in part.batches())

    def commit(self, token: CommitToken) -> Receipt:
        if self._position not in (token.after, token.upto):
            raise Superseded("the lane does not stand where the commit begins", lane=self._lane, position=token.after)
        self._position = token.upto
        return Receipt(self._lane, token.upto, token.rows)

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        return self.commit(token)

    def abort(self) -> None:
        return
