"""A sink around another one: what passes through unchanged, for those that change the rest on its way."""

from __future__ import annotations

from wallaby.lsn import Position
from wallaby.schema import TableName
from wallaby.sink import Capabilities, Guarding, Rehearsing, Sink, SinkWriter
from wallaby.window import CommitToken, LaneId, Receipt


class SinkAround:
    """The parts of `wallaby.sink.Sink` that say the same as the sink inside; tables are those of ``targets``."""

    def __init__(self, inside: Sink) -> None:
        self.inside = inside

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inside!r})"

    def targets(self, table: TableName) -> tuple[TableName, ...]:
        """What a table is called inside; nothing when it does not go there."""
        return (table,)

    @property
    def capabilities(self) -> Capabilities:
        return self.inside.capabilities

    @property
    def commit_interval_ms(self) -> int:
        return self.inside.commit_interval_ms

    def open(self) -> None:
        self.inside.open()

    def close(self) -> None:
        self.inside.close()

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        for target in self.targets(table):
            self.inside.reset_table(target, lane, epoch)

    def require_resettable(self, table: TableName) -> None:
        """See `wallaby.sink.Guarding`."""
        if isinstance(self.inside, Guarding):
            for target in self.targets(table):
                self.inside.require_resettable(target)

    def recover(self, lane: LaneId, epoch: int) -> Position:
        return self.inside.recover(lane, epoch)

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self.inside.reset_lane(lane, epoch)


class WriterAround:
    """The same for `wallaby.sink.SinkWriter`."""

    def __init__(self, inside: SinkWriter) -> None:
        self.inside = inside

    def commit(self, token: CommitToken) -> Receipt:
        return self.inside.commit(token)

    def abort(self) -> None:
        self.inside.abort()


class RehearsingAround(WriterAround):
    """... around a writer that is `Rehearsing`."""

    def rehearse(self) -> None:
        """See `wallaby.sink.Rehearsing`."""
        assert isinstance(self.inside, Rehearsing), self.inside
        self.inside.rehearse()


__all__ = ["RehearsingAround", "SinkAround", "WriterAround"]
