"""What a destination remembers of a lane, and the compare of the compare-and-set that every commit is.

Sinks keep the record where their data is; these are the rules they all follow (see `wallaby.sink.SinkWriter.commit`).
"""

from __future__ import annotations

from dataclasses import dataclass

from wallaby.errors import Refused, Superseded
from wallaby.lsn import START, Position
from wallaby.window import CommitToken, LaneId


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """Where a lane stands in its destination. Epoch 0: nobody has written yet."""

    position: Position = START
    epoch: int = 0


def require_epoch(record: LaneRecord, lane: LaneId, epoch: int) -> None:
    """`Superseded` when a newer epoch wrote the record."""
    if record.epoch > epoch:
        raise Superseded("a writer of a newer epoch owns the lane", lane=lane, epoch=epoch, owner=record.epoch)


def must_apply(record: LaneRecord, token: CommitToken, *, restored: str) -> bool:
    """True when the commit has to be applied, False when it was applied before.

    `Superseded` when another writer owns the lane or moved it on; `Refused` when the destination went back in time,
    and ``restored`` says in a clause how that may have come about (``the file was replaced``).
    """
    lane = token.lane
    require_epoch(record, lane, token.epoch)
    if record.epoch == token.epoch:
        if record.position == token.after:
            return True
        if record.position == token.upto:
            return False
        if record.position > token.after:
            raise Superseded(
                "another writer moved the lane's position", lane=lane, expected=token.after, found=record.position
            )
    raise Refused(
        "the destination stands behind what it confirmed: it went back in time",
        advice=f"A backup was put back or {restored}: copy the tables again with --resnapshot",
        lane=lane,
        expected=token.after,
        found=record.position,
    )


__all__ = ["LaneRecord", "must_apply", "require_epoch"]
