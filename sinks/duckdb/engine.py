"""What destinations of DuckDB's engine have in common: the sink contract over one session."""

from __future__ import annotations

from datetime import timedelta
from typing import Generic, TypeVar

from sinks.duckdb import lanes
from sinks.duckdb.config import EngineOptions
from sinks.duckdb.session import Session
from sinks.duckdb.tables import Tables
from sinks.duckdb.writer import DuckDBWriter
from wallaby.lsn import START, Position
from wallaby.record import LaneRecord, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import SinkWriter
from wallaby.window import LaneId

S = TypeVar("S", bound=Session)


class EngineSink(Generic[S]):
    """See `wallaby.sink.Sink`; where the database is and what can be found out about it, its kinds say."""

    def __init__(self, session: S, options: EngineOptions, *, destination: str) -> None:
        self._session = session
        self._tables = Tables(session, options)
        self._destination = destination
        self._writer: DuckDBWriter | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._destination!r}, {self._session.place!r})"

    @property
    def commit_interval_ms(self) -> int:
        return self._tables.options.commit_interval // timedelta(milliseconds=1)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        self._session.close()

    def ensure_table(self, schema: TableSchema) -> None:
        # Not for each of many tables: every `recover` looks again.
        if not self._session.is_prepared:
            lanes.prepare(self._session)
        self._tables.ensure(schema)

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        lanes.prepare(self._session)
        self._abandon()
        with self._session.transaction():
            require_epoch(lanes.read(self._session, lane), lane, epoch)
            self._tables.reset(table)

    def require_resettable(self, table: TableName) -> None:
        """See `wallaby.sink.Guarding`."""
        lanes.prepare(self._session)
        self._tables.require_resettable(table)

    def recover(self, lane: LaneId, epoch: int) -> Position:
        self._abandon()
        lanes.prepare(self._session)
        with self._session.transaction():
            record = lanes.read(self._session, lane)
            require_epoch(record, lane, epoch)
            if record.epoch < epoch:
                lanes.store(self._session, lane, LaneRecord(record.position, epoch))
        return record.position

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self._abandon()
        lanes.prepare(self._session)
        with self._session.transaction():
            require_epoch(lanes.read(self._session, lane), lane, epoch)
            lanes.store(self._session, lane, LaneRecord(START, epoch))

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        lanes.prepare(self._session)
        self._writer = DuckDBWriter(self._session, self._tables, lane, epoch)
        return self._writer

    def _abandon(self) -> None:
        """A position is asked for or changed: what an earlier writer left open is not part of it."""
        if self._writer is not None:
            self._writer.abort()


__all__ = ["EngineSink"]
