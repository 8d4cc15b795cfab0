"""The Delta Lake destination: the sink contract over a folder of Delta tables."""

from __future__ import annotations

import os
from datetime import timedelta

from sinks.delta.config import CAPABILITIES, DeltaOptions
from sinks.delta.lanes import Lanes
from sinks.delta.store import Store
from sinks.delta.tables import Tables
from sinks.delta.upkeep import Upkeep
from sinks.delta.writer import DeltaWriter
from wallaby.errors import WallabyError
from wallaby.lsn import Position
from wallaby.record import require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, SinkWriter, error_finding
from wallaby.window import LaneId


class DeltaSink:
    """See `wallaby.sink.Sink`. Holds no lock: every commit is a compare-and-set of the store."""

    def __init__(self, options: DeltaOptions, *, destination: str) -> None:
        self._options = options
        self._destination = destination
        self._store = Store(options)
        self._records = Lanes(self._store)
        self._tables = Tables(self._store)
        self._upkeep = Upkeep(self._store)
        self._writers: dict[LaneId, DeltaWriter] = {}
        self._epochs: dict[LaneId, int] = {}

    def __repr__(self) -> str:
        return f"DeltaSink({self._destination!r}, {self._options.path!r})"

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return self._options.commit_interval // timedelta(milliseconds=1)

    def open(self) -> None:
        """Nothing to connect to; `check` and the first call that writes tell whether the store is there."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()
        self._upkeep.close()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        found = [] if self._options.is_remote else directory_findings(self._options.path)
        if found:
            return found
        try:
            self._records.peek()
        except WallabyError as error:
            code = "format-version" if "format" in error.message else "destination-unreachable"
            return [error_finding(self._options.path, error.message, error.advice, code)]
        try:
            return [*self._tables.findings(tables), *self._upkeep.findings()]
        except WallabyError as error:
            return [error_finding(self._options.path, error.message, error.advice, "destination-unreachable")]

    def ensure_table(self, schema: TableSchema) -> None:
        self._tables.ensure(schema, fence=self._require_lanes)

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        mark = self._records.read(lane)
        require_epoch(mark.record, lane, epoch)
        self._tables.reset(table, lane, mark, epoch)

    def require_resettable(self, table: TableName) -> None:
        """See `wallaby.sink.Guarding`."""
        if (found := self._tables.opened(table)) is not None:
            self._tables.require_resettable(table, found)

    def recover(self, lane: LaneId, epoch: int) -> Position:
        self._abandon(lane)
        position = self._records.take(lane, epoch).record.position
        self._epochs[lane] = epoch
        return position

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        self._abandon(lane)
        self._records.take(lane, epoch, is_reset=True)
        self._epochs[lane] = epoch

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        self._abandon(lane)
        writer = DeltaWriter(self._records, self._tables, self._upkeep, lane)
        self._writers[lane] = writer
        return writer

    def _abandon(self, lane: LaneId) -> None:
        """A position is asked for or changed: what an earlier writer staged is not part of it."""
        if (writer := self._writers.pop(lane, None)) is not None:
            writer.abort()

    def _require_lanes(self) -> None:
        """`Superseded` when a newer epoch has a lane of this process: a leftover must not shape its tables."""
        for lane, epoch in self._epochs.items():
            require_epoch(self._records.read(lane).record, lane, epoch)


def directory_findings(path: str) -> list[Finding]:
    """What keeps a local directory from being written, seen from outside."""
    if not os.path.exists(path):
        return [error_finding(path, "does not exist", "Create the directory, or mount it", "missing-folder")]
    if not os.path.isdir(path):
        return [error_finding(path, "is not a directory", "Name a directory", "not-a-directory")]
    if not os.access(path, os.W_OK | os.X_OK):
        return [error_finding(path, "cannot be written", "Give this user write permission", "read-only")]
    return []


__all__ = ["DeltaSink", "directory_findings"]
