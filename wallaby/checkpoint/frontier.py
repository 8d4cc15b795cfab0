"""The frontier: up to where every required destination has made the stream durable. Pure.

Three facts are fed in, and one number comes out::

    sent(lane, upto)      a window ending at upto was handed to the lane
    received(receipt)     the lane's destination has everything up to receipt.upto
    read_upto(position)   everything up to position was read, and handed to every lane it concerns

    durable()             the highest position between transactions that no required lane is still missing

A prepared transaction holds the frontier at its PREPARE: were that confirmed, the server would answer its second phase
with a bare "commit", without the changes. The frontier stands before the PREPARE or beyond the commit, never between.

A lane that nothing is outstanding for holds nothing back: rows go to lanes by table, and a lane whose tables are idle
has no receipts. So each lane's word is: *what I had when I last became busy, or my newest receipt*; and an idle lane's
word is the read position itself.

A lane may stand ahead of the read position after a restart, because its destination committed and the checkpoint came
later; the same windows come again and are dropped by the lane. It may stand inside a transaction, at ``(C, n)``: then
every transaction that ends at or before C is durable, and the one that commits at C is not, so its word is ``(C, 0)``.
PostgreSQL sends the transaction with ``commit_lsn`` C again when C is confirmed (see `wallaby.lsn`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wallaby.lsn import START, Position
from wallaby.window import LaneId, Receipt


class Frontier:
    """One epoch's frontier. ``lanes``: every lane with the position its destination reported at the start.

    ``required``: the destinations that must have a change before the source may forget it (with ``ack_policy: all``
    all of them). Others are followed, and hold nothing back.
    """

    __slots__ = ("_durable", "_holds", "_lanes", "_read", "_required")

    def __init__(self, lanes: Mapping[LaneId, Position], required: Collection[str]) -> None:
        self._lanes = {lane: _Lane(position) for lane, position in lanes.items()}
        destinations = {lane.destination for lane in lanes}
        assert required, "a flow needs at least one required destination"
        assert set(required) <= destinations, f"required {set(required) - destinations} have no lane"
        self._required = [state for lane, state in self._lanes.items() if lane.destination in required]
        self._read = START
        self._durable = START
        self._holds: dict[int, _Hold] = {}

    def sent(self, lane: LaneId, upto: Position) -> None:
        """A window that ends at ``upto`` was handed to ``lane``. Call it before `read_upto` of that position."""
        self._lanes[lane].sent_upto(upto, self._read)

    def received(self, receipt: Receipt) -> None:
        """A destination's word; repeated and old receipts change nothing."""
        state = self._lanes[receipt.lane]
        state.position = max(state.position, receipt.upto)

    def read_upto(self, position: Position) -> None:
        """Everything up to ``position`` was handed to the lanes it concerns. Going back changes nothing."""
        self._read = max(self._read, position)

    def hold(self, xid: int, at: Position) -> None:
        """The transaction ``xid`` is prepared at ``at`` and its changes are not in the lanes."""
        self._holds[xid] = _Hold(at)

    def let_go(self, xid: int, upto: Position | None = None) -> None:
        """It committed, and its changes end at ``upto``; without ``upto`` it was rolled back. Unknown: nothing."""
        if upto is None:
            self._holds.pop(xid, None)
        elif xid in self._holds:
            self._holds[xid].upto = upto

    def durable(self) -> Position:
        """The highest known position between transactions that every required lane has passed; never moves back."""
        reached = min((state.reached(self._read) for state in self._required), default=START)
        reached = self._before_holds(min(reached, self._read))
        self._durable = max(self._durable, _between_transactions(reached))
        self._holds = {xid: hold for xid, hold in self._holds.items() if hold.upto is None or self._durable < hold.upto}
        return self._durable

    def _before_holds(self, reached: Position) -> Position:
        """The highest position up to ``reached`` that lies between no PREPARE and the end of its transaction.

        A transaction that is durable itself holds, too, while another one holds the frontier before its end.
        """
        for hold in sorted(self._holds.values(), key=lambda hold: hold.at, reverse=True):
            if hold.at < reached and (hold.upto is None or reached < hold.upto):
                reached = hold.at
        return reached

    def lane_positions(self) -> dict[LaneId, Position]:
        """What each lane's destination has, by its own word."""
        return {lane: state.position for lane, state in self._lanes.items()}


class _Hold:
    __slots__ = ("at", "upto")

    def __init__(self, at: Position) -> None:
        self.at = at
        self.upto: Position | None = None


class _Lane:
    __slots__ = ("_complete", "_sent", "position")

    def __init__(self, position: Position) -> None:
        self.position = position
        self._sent = position
        self._complete = position
        """Up to here nothing concerns the lane that it does not have; kept while windows are outstanding."""

    def sent_upto(self, upto: Position, read: Position) -> None:
        if self._sent <= self.position:
            self._complete = max(self.position, read)
        self._sent = max(self._sent, upto)

    def reached(self, read: Position) -> Position:
        return max(self.position, read if self._sent <= self.position else self._complete)


def _between_transactions(position: Position) -> Position:
    return Position(position.lsn, 0)
