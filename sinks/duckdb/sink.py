"""The DuckDB destination: the sink contract over one file and one connection."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sinks.duckdb import lanes
from sinks.duckdb.config import CAPABILITIES, DuckDBOptions
from sinks.duckdb.session import Session, is_writable
from sinks.duckdb.tables import Tables
from sinks.duckdb.writer import DuckDBWriter
from wallaby.errors import WallabyError
from wallaby.lsn import START, Position
from wallaby.record import LaneRecord, require_epoch
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, Severity, SinkWriter
from wallaby.window import LaneId

_MAGIC = b"DUCK"
_MAGIC_OFFSET = 8


class DuckDBSink:
    """See `wallaby.sink.Sink`. Holds the file's lock from the first use of the file until ``close``."""

    def __init__(self, options: DuckDBOptions, *, destination: str) -> None:
        self._session = Session(options)
        self._tables = Tables(self._session, options)
        self._destination = destination
        self._writer: DuckDBWriter | None = None

    def __repr__(self) -> str:
        return f"DuckDBSink({self._destination!r}, {str(self._session.path)!r})"

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return self._tables.options.commit_interval // timedelta(milliseconds=1)

    def open(self) -> None:
        """Connect to the file if it exists; a new one is made by the first call that writes."""
        if self._session.path.exists():
            self._session.connect()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        self._session.close()

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        path = self._session.path
        found = file_findings(path)
        if found:
            return found
        was_connected = self._session.is_connected
        if path.exists():
            try:
                self._session.connect()
            except WallabyError as error:
                return [_error(str(path), error.message, error.advice, "locked")]
        try:
            return self._tables.findings(tables, can_read=path.exists())
        finally:
            if not was_connected:
                self._session.close()

    def ensure_table(self, schema: TableSchema) -> None:
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


def file_findings(path: Path) -> list[Finding]:
    """What keeps the file from being opened for writing, seen from outside."""
    if not path.parent.is_dir():
        return [_error(str(path), "the folder does not exist", f"Create {path.parent}", "missing-folder")]
    if path.is_dir():
        return [_error(str(path), "is a folder", "Name a file inside it", "not-a-database")]
    if not is_writable(path):
        return [_error(str(path), "cannot be written", "Give this user write permission", "read-only")]
    if not is_writable(path.parent):
        return [_error(str(path.parent), "cannot be written, but the log goes there", "Give permission", "read-only")]
    if path.exists() and path.stat().st_size and not _is_database(path):
        return [_error(str(path), "is not a DuckDB database", "Name another file", "not-a-database")]
    return []


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_MAGIC_OFFSET + len(_MAGIC))[_MAGIC_OFFSET:] == _MAGIC


def _error(subject: str, message: str, advice: str, code: str) -> Finding:
    return Finding(severity=Severity.ERROR, subject=subject, message=message, advice=advice, code=code)


__all__ = ["DuckDBSink", "file_findings"]
